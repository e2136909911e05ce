"""The plan of a merge: which bytes of which inputs make which bytes of the output. Made from headers alone.

Verified before the first byte is written: names, shapes, dtypes, coefficients, disk space. Touches no tensor data.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from mull import __version__
from mull.checkpoints.checkpoint import INDEX, SINGLE, Checkpoint
from mull.checkpoints.headers import FLOATING, ITEM_BYTES, TensorInfo, layout_header
from mull.checkpoints.pair import AlignedTensor, Group
from mull.errors import MullError
from mull.merging.coefficients import Coefficients
from mull.merging.methods import Method
from mull.merging.methods.mi import Mi

DTYPES = {"bfloat16": "BF16", "float16": "F16", "float32": "F32"}


@dataclass(frozen=True)
class OutputTensor:
    """One tensor of the result."""

    source: AlignedTensor
    dtype: str
    coefficient: float
    """λ or α, as the method takes it."""
    start: int
    """Byte offset in its shard."""
    nbytes: int


@dataclass(frozen=True)
class OutputShard:
    """One safetensors file of the result."""

    file: str
    header: bytes
    tensors: list[OutputTensor]

    @property
    def nbytes(self) -> int:
        return len(self.header) + sum(tensor.nbytes for tensor in self.tensors)


@dataclass(frozen=True)
class MergePlan:
    """Everything a merge will do."""

    group: Group
    method: Method
    coefficients: Coefficients
    dtype: str | None
    """safetensors dtype of all floating tensors, or None for the donor's own."""
    shards: list[OutputShard]

    @property
    def coefficient(self) -> tuple[str, str]:
        """The coefficient's sign and its value or rules; both empty where the method takes none."""
        sign = {"lambda": "λ", "alpha": "α", None: ""}[self.method.takes]
        return sign, self.coefficients.label if sign else ""

    @property
    def nbytes(self) -> int:
        """Bytes of all shards."""
        return sum(shard.nbytes for shard in self.shards)

    @property
    def read_bytes(self) -> int:
        """Bytes of the inputs that take part: of what is copied, one model's. To measure is to read them again."""
        return sum(_read(tensor, self.copies(tensor)) for shard in self.shards for tensor in shard.tensors)

    def copies(self, tensor: OutputTensor) -> TensorInfo | None:
        """The tensor whose bytes (or values, in another dtype) are the whole result, if any."""
        if tensor.source.donor.dtype not in FLOATING:
            return tensor.source.donor
        copied = self.method.copies(tensor.coefficient)
        return None if copied is None else tensor.source.models[copied]

    @cached_property
    def digest(self) -> str:
        """Identifies inputs (by name, size and time of change), settings and layout: a resume needs the same."""
        layout = [shard.header.hex() for shard in self.shards]
        return hashlib.sha256(json.dumps([__version__, self.described, layout], sort_keys=True).encode()).hexdigest()

    @cached_property
    def described(self) -> dict[str, Any]:
        """`describe()` as it was when the plan was made."""
        return self.describe()

    def describe(self) -> dict[str, Any]:
        """The settings and the inputs as they are now, for the manifest and the digest."""
        return {
            **self.method.to_json(),
            "coefficients": self.coefficients.to_json(),
            "donor": self.group.donor_role,
            "dtype": self.dtype,
            "shards": [shard.file for shard in self.shards],
            **{role: _identity(model) for role, model in self.group.by_role.items()},
        }

    def check_unchanged(self) -> None:
        """Raise MullError if an input file was written to, or removed, since the plan was made."""
        for role, model in self.group.by_role.items():
            before = self.described[role]["files"]
            for path in model.files:
                try:
                    same = before[path.name] == _stat(path)
                except OSError:
                    same = False
                if not same:
                    what = f"{path} changed while it was read"
                    raise MullError(what, "make sure that nothing writes to it, then run again")

    def config(self) -> dict[str, Any]:
        """The donor's config, with the new dtype where one was asked for: loaders cast to what the config says."""
        config = dict(self.group.donor.config)
        name = next((name for name, kind in DTYPES.items() if kind == self.dtype), None)
        if name is not None:
            config["dtype" if "dtype" in config else "torch_dtype"] = name
        return config

    def index(self) -> dict[str, Any]:
        """The content of model.safetensors.index.json."""
        return {
            "metadata": {"total_size": sum(t.nbytes for shard in self.shards for t in shard.tensors)},
            "weight_map": {t.source.name: shard.file for shard in self.shards for t in shard.tensors},
        }

    def check_companions(self) -> None:
        """Raise MullError for a file of the donor that cannot be copied."""
        for path in self.group.donor.companions():
            if not os.access(path, os.R_OK):
                raise MullError(f"cannot read {path}", "check its permissions: it is copied beside the weights")

    def check_space(self, out: Path, times: int = 1) -> None:
        """Raise MullError unless the file system of `out` has room for `times` results of this size."""
        parent = out.resolve().parent
        while not parent.exists():
            parent = parent.parent
        companions = sum(path.stat().st_size for path in self.group.donor.companions())
        needed, free = times * (self.nbytes + companions + (1 << 20)), shutil.disk_usage(parent).free
        if needed > free:
            have = f"the result needs {in_words(needed)}, {in_words(free)} are free"
            raise MullError(
                f"not enough disk space at {parent}: {have}", "free some space or choose another output folder"
            )


def plan_merge(
    group: Group,
    coefficients: Coefficients,
    *,
    method: Method | None = None,
    dtype: str | None = None,
    shard_bytes: int | None = None,
) -> MergePlan:
    """Plan a merge of a checked pair or group; interpolation unless another method is given.

    Shards are the donor's, or of at most `shard_bytes` each.

    Raises:
        MullError: a coefficient matches nothing or lies beyond the model, `dtype` is unknown, or the method does not
            take these models.
    """
    method = method or Mi()
    method.check_models(len(group.models), has_base=group.base is not None)
    if dtype is not None and dtype not in DTYPES:
        raise MullError(f"unknown dtype {dtype!r}", "known: " + ", ".join(DTYPES))
    target = DTYPES[dtype] if dtype else None
    lams = coefficients.resolve(tensor.name for tensor in group.tensors)
    outputs: list[tuple[AlignedTensor, str]] = []
    for tensor in group.tensors:
        mixed = tensor.donor.dtype in FLOATING
        outputs.append((tensor, target if target and mixed else tensor.donor.dtype))
    shards = []
    groups = _by_size(outputs, shard_bytes) if shard_bytes else _as_donor(outputs)
    for i, together in enumerate(groups):
        file = SINGLE if len(groups) == 1 else f"model-{i + 1:05d}-of-{len(groups):05d}.safetensors"
        # Wide items first, as safetensors itself does: its readers need every tensor aligned.
        together.sort(key=lambda item: -ITEM_BYTES[item[1]])
        header, spans = layout_header([(tensor.name, kind, tensor.donor.shape) for tensor, kind in together])
        tensors = [OutputTensor(tensor, kind, lams[tensor.name], *spans[tensor.name]) for tensor, kind in together]
        shards.append(OutputShard(file, header, tensors))
    plan = MergePlan(group, method, coefficients, target, shards)
    _ = plan.described  # the inputs as they are now: what changes from here on is noticed
    return plan


def in_words(nbytes: int) -> str:
    """Bytes for people: 3.44 GB, 12.3 MB."""
    return f"{nbytes / 1e9:.2f} GB" if nbytes >= 1e9 else f"{nbytes / 1e6:.1f} MB"


def _as_donor(outputs: list[tuple[AlignedTensor, str]]) -> list[list[tuple[AlignedTensor, str]]]:
    groups: dict[Path, list[tuple[AlignedTensor, str]]] = {}
    for tensor, kind in outputs:
        groups.setdefault(tensor.donor.file, []).append((tensor, kind))
    return [groups[file] for file in sorted(groups)]


def _by_size(outputs: list[tuple[AlignedTensor, str]], limit: int) -> list[list[tuple[AlignedTensor, str]]]:
    groups: list[list[tuple[AlignedTensor, str]]] = [[]]
    size = 0
    for tensor, kind in outputs:
        nbytes = tensor.donor.numel * ITEM_BYTES[kind]
        if groups[-1] and size + nbytes > limit:
            groups.append([])
            size = 0
        groups[-1].append((tensor, kind))
        size += nbytes
    return groups


def _read(tensor: OutputTensor, copied: TensorInfo | None) -> int:
    source = tensor.source
    if copied is not None:
        return copied.nbytes
    return sum(info.nbytes for info in source.models) + (source.base.nbytes if source.base else 0)


def _identity(checkpoint: Checkpoint) -> dict[str, Any]:
    files = {path.name: _stat(path) for path in checkpoint.files}
    return {"name": checkpoint.name, "index": (checkpoint.folder / INDEX).is_file(), "files": files}


def _stat(path: Path) -> dict[str, int]:
    stat = path.stat()
    return {"bytes": stat.st_size, "mtime_ns": stat.st_mtime_ns}
