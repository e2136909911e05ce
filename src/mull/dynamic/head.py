"""The file of trained estimators: safetensors with a JSON record, bound to one pair by its hashes."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from mull.benchmarks import AnswerForm
from mull.dynamic.base import Estimator, Need
from mull.dynamic.estimators.conf import Confidence
from mull.dynamic.estimators.length import Length
from mull.dynamic.estimators.linear import Features
from mull.dynamic.estimators.pref import Preference
from mull.dynamic.estimators.router import Router
from mull.errors import MullError
from mull.folders import write_atomically

VERSION = 1
MOST_BYTES = 256 << 20
"""A head has a few thousand numbers and the hashes of its questions; a larger file is none."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Head:
    """Everything that `mull route train` learned about one pair."""

    pair: Mapping[str, str]
    """Hash of each side (`mull.checkpoints.fingerprint`)."""
    form: AnswerForm
    """How answers were forced."""
    preference: Preference
    router: Router
    length: Length
    confidences: Sequence[Confidence]
    """Fitted to the training questions without their answers, one for each form."""
    seen: frozenset[str]
    """Hashes of the questions that trained or fitted any part (`mull.dynamic.training.records.text_hash`)."""
    report: Mapping[str, Any]
    """How it was trained and how it did on held-out questions, as JSON."""
    digest: str = ""
    """Hash of the file; empty before it is written."""

    def estimators(self) -> list[Estimator]:
        """All of them, named as on the command line."""
        return [*self.confidences, self.preference, self.length, self.router]

    def check(self, pair: Mapping[str, str]) -> None:
        """Raises `MullError` unless `pair`, the hashes of both sides, is the pair that the head was trained on."""
        for side in ("instruct", "thinking"):
            if pair[side] != self.pair[side]:
                raise MullError(
                    f"the head was trained on another {side.capitalize()} ({self.pair[side]}, not {pair[side]})",
                    "train one for this pair with `mull route train`, or leave --head out",
                )

    def save(self, path: Path) -> Head:
        """Writes the file, whole or not at all; returns the head with its digest."""
        arrays: dict[str, np.ndarray] = {"pref.lams": self.preference.lams}
        for name, part in self._parts().items():
            arrays |= {f"{name}.mean": part.features.mean, f"{name}.scale": part.features.scale}
            arrays[f"{name}.weights"] = part.weights
        arrays["pref.biases"] = self.preference.biases
        record = {
            "version": VERSION,
            "pair": dict(self.pair),
            "form": list(self.form),
            "layers": {name: part.features.layer for name, part in self._parts().items()},
            "router": {"bias": self.router.bias, "threshold": self.router.threshold},
            "length": {key: getattr(self.length, key) for key in ("bias", "shortest", "longest", "low", "high")},
            "confidences": [asdict(each) for each in self.confidences],
            "seen": sorted(self.seen),
            "report": dict(self.report),
        }
        arrays = {name: np.ascontiguousarray(array, np.float64) for name, array in arrays.items()}
        content = save(arrays, {"mull_head": json.dumps(record, sort_keys=True)})
        write_atomically(path, content)
        return _with_digest(self, content)

    @classmethod
    def open(cls, path: Path) -> Head:
        """Reads the file. Raises `MullError` for anything that is no whole head."""
        try:
            if path.stat().st_size > MOST_BYTES or path.is_char_device() or path.is_fifo():
                raise MullError(f"{path} is too large for a head", "give a file of `mull route train`")
            content = path.read_bytes()
        except OSError as error:
            raise MullError(f"cannot read the head {path}: {error.strerror}", "make one: mull route train") from None
        try:
            size = int.from_bytes(content[:8], "little")
            metadata = json.loads(content[8 : 8 + size])["__metadata__"]
            record = json.loads(metadata["mull_head"])
            head = _read(record, load(content))
        except _WRONG as error:
            said = str(error).splitlines()[0] if isinstance(error, _Damaged) else type(error).__name__
            raise MullError(
                f"{path} is no head of `mull route train`, or is damaged ({said})", "train it again"
            ) from None
        return _with_digest(head, content)

    def _parts(self) -> dict[str, Preference | Router | Length]:
        return {"pref": self.preference, "router": self.router, "length": self.length}


def _with_digest(head: Head, content: bytes) -> Head:
    digest = hashlib.sha256(content).hexdigest()[:16]
    return replace(
        head,
        digest=digest,
        preference=replace(head.preference, digest=digest),
        router=replace(head.router, digest=digest),
        length=replace(head.length, digest=digest),
    )


_NEEDS = {"pref": Need.hidden_instruct, "router": Need.hidden_instruct, "length": Need.hidden_thinking}
_ARRAYS = {"pref.lams", "pref.biases", *(f"{name}.{part}" for name in _NEEDS for part in ("mean", "scale", "weights"))}
_RECORD = {"version", "pair", "form", "layers", "router", "length", "confidences", "seen", "report"}


class _Damaged(ValueError):
    """What does not fit together, in words."""


_WRONG = (
    SafetensorError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    IndexError,
    OverflowError,
    RecursionError,
    MullError,
)
"""What reading a file of any content raises."""


def _read(record: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Head:
    """Raises one of `_WRONG` for what does not fit together."""
    if record["version"] != VERSION:
        raise _Damaged(f"version {record['version']!r}, not {VERSION}")
    if record.keys() != _RECORD or arrays.keys() != _ARRAYS:
        raise _Damaged("other parts")
    if not all(array.dtype == np.float64 and np.isfinite(array).all() for array in arrays.values()):
        raise _Damaged("numbers that are not finite")
    features = {}
    for name, need in _NEEDS.items():
        mean, scale, layer = arrays[f"{name}.mean"], arrays[f"{name}.scale"], record["layers"][name]
        if mean.ndim != 1 or scale.shape != mean.shape or not (scale > 0).all():
            raise _Damaged(f"features of {name}")
        if type(layer) is not int or layer < 0:
            raise _Damaged(f"layer of {name}")
        features[name] = Features(need=need, layer=layer, mean=mean, scale=scale)
    size = {name: len(each.mean) for name, each in features.items()}
    lams, biases = arrays["pref.lams"], arrays["pref.biases"]
    if lams.ndim != 1 or not len(lams) or lams[0] < 0 or lams[-1] > 1 or not (np.diff(lams) > 0).all():
        raise _Damaged("λ that do not rise from 0 to 1")
    shapes = {name: arrays[f"{name}.weights"].shape for name in _NEEDS}
    expected = {"pref": (len(lams), size["pref"]), "router": (size["router"],), "length": (size["length"],)}
    if shapes != expected or biases.shape != lams.shape:
        raise _Damaged("shapes of weights")
    kind, opening = record["form"]
    if kind not in ("boxed", "letter", "free") or not isinstance(opening, str):
        raise _Damaged("answer form")
    length = _numbers(record["length"], _LENGTH)
    if not 0 <= length["low"] <= length["high"] <= 1:
        raise _Damaged("λ of length")
    confidences = [_confidence(each) for each in record["confidences"]]
    if len({each.name for each in confidences} | _NEEDS.keys()) < len(confidences) + len(_NEEDS):
        raise _Damaged("two estimators of one name")
    return Head(
        pair={side: str(record["pair"][side]) for side in ("instruct", "thinking")},
        form=AnswerForm(kind, opening),
        preference=Preference(features=features["pref"], lams=lams, weights=arrays["pref.weights"], biases=biases),
        router=Router(
            features=features["router"], weights=arrays["router.weights"], **_numbers(record["router"], _ROUTER)
        ),
        length=Length(features=features["length"], weights=arrays["length.weights"], **length),
        confidences=confidences,
        seen=frozenset(map(str, record["seen"])),
        report=dict(record["report"]),
    )


_ROUTER = ("bias", "threshold")
_LENGTH = ("bias", "shortest", "longest", "low", "high")


def _numbers(record: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    if record.keys() != set(names) or not all(type(value) in (int, float) for value in record.values()):
        raise _Damaged("constants")
    found = {name: float(record[name]) for name in names}
    if not all(map(math.isfinite, found.values())):
        raise _Damaged("numbers that are not finite")
    return found


def _confidence(record: Mapping[str, Any]) -> Confidence:
    words = {"form": record["form"], "name": record["name"]}
    if not all(isinstance(word, str) and re.fullmatch("[a-z][a-z-]{0,19}", word) for word in words.values()):
        raise _Damaged("name of a confidence")
    names = {field.name for field in fields(Confidence)} - words.keys()
    rest = {name: value for name, value in record.items() if name not in words}
    return Confidence(**words, **_numbers(rest, names))
