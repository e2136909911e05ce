"""The head's file: it comes back bit by bit, and whatever is not one is refused in one sentence."""

from __future__ import annotations

import json
import math
import pickle
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import load, save

from mull.benchmarks import BOXED_ANSWER
from mull.dynamic.head import MOST_BYTES, Head
from mull.dynamic.training.train import train_head
from mull.errors import MullError

from .conftest import made_up


@pytest.fixture(scope="module")
def made():
    return made_up(50)


@pytest.fixture(scope="module")
def content(made, tmp_path_factory):
    path = tmp_path_factory.mktemp("made") / "head.safetensors"
    train_head(*made, BOXED_ANSWER).save(path)
    return path.read_bytes()


def parts(content):
    size = int.from_bytes(content[:8], "little")
    return load(content), json.loads(json.loads(content[8 : 8 + size])["__metadata__"]["mull_head"])


def changed(content, change):
    """The file with what `change(arrays, record)` does to its parts."""
    arrays, record = parts(content)
    change(arrays, record)
    return save(
        {name: np.ascontiguousarray(array) for name, array in arrays.items()}, {"mull_head": json.dumps(record)}
    )


def refused(path, content):
    path.write_bytes(content)
    with pytest.raises(MullError) as caught:
        Head.open(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_file_comes_back_bit_by_bit(made, content, tmp_path):
    head = train_head(*made, BOXED_ANSWER)
    saved = head.save(tmp_path / "a")
    again = Head.open(tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == content
    again.save(tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == content
    assert (again.pair, again.form, again.seen, again.report) == (head.pair, head.form, head.seen, head.report)
    assert saved.digest == again.digest and len(again.digest) == 16
    for before, after in zip(saved.estimators(), again.estimators(), strict=True):
        assert before.name == after.name and before.record() == after.record()
        for signals in made[1]:
            assert after.choose(signals) == before.choose(signals)


def test_estimators_of_a_head_can_be_pickled(made, content, tmp_path):
    (tmp_path / "a").write_bytes(content)
    head = Head.open(tmp_path / "a")
    assert [each.name for each in head.estimators()] == [
        "conf",
        "conf-entropy",
        "conf-ratio",
        "pref",
        "length",
        "router",
    ]
    for estimator in head.estimators():
        again = pickle.loads(pickle.dumps(estimator))
        assert again.choose(made[1][0]) == estimator.choose(made[1][0])


def test_a_head_of_another_pair_is_refused(content, tmp_path):
    (tmp_path / "a").write_bytes(content)
    head = Head.open(tmp_path / "a")
    head.check({"instruct": "a" * 16, "thinking": "b" * 16})
    with pytest.raises(MullError, match="trained on another Thinking"):
        head.check({"instruct": "a" * 16, "thinking": "a" * 16})
    with pytest.raises(MullError, match="trained on another Instruct"):
        head.check({"instruct": "b" * 16, "thinking": "b" * 16})


def test_every_truncation_is_refused(content, tmp_path):
    size = 8 + int.from_bytes(content[:8], "little")
    for length in (0, 1, 7, 8, 9, 100, size - 1, size, size + 1, len(content) - 1):
        assert "damaged" in refused(tmp_path / "head", content[:length])
    assert "damaged" in refused(tmp_path / "head", content + b"\0")


@pytest.mark.parametrize(
    "foreign",
    [
        b"hello",
        pickle.dumps({"pref": np.zeros(3)}),
        save({"x": np.zeros(3)}),
        save({"x": np.zeros(3)}, {"mull_head": "[]"}),
        save({"x": np.zeros(3)}, {"mull_head": "[" * 100_000}),
        (1 << 60).to_bytes(8, "little") + b"{}",
        (2).to_bytes(8, "little") + b"[]",
    ],
    ids=["text", "pickle", "other tensors", "a list", "nested", "long header", "no metadata"],
)
def test_other_files_are_refused(foreign, tmp_path):
    assert "is no head of `mull route train`" in refused(tmp_path / "head", foreign)


def test_a_huge_file_is_refused_unread(tmp_path):
    with (tmp_path / "head").open("wb") as file:
        file.truncate(MOST_BYTES + 1)
    with pytest.raises(MullError, match="too large for a head"):
        Head.open(tmp_path / "head")
    with pytest.raises(MullError, match="cannot read the head"):
        Head.open(tmp_path)
    with pytest.raises(MullError, match="cannot read the head"):
        Head.open(tmp_path / "absent")


ARRAYS = (
    "length.mean", "length.scale", "length.weights", "pref.biases", "pref.lams", "pref.mean", "pref.scale",
    "pref.weights", "router.mean", "router.scale", "router.weights",
)  # fmt: skip


@pytest.mark.parametrize("name", ARRAYS)
def test_damage_to_every_array_is_refused(content, tmp_path, name):
    arrays, _ = parts(content)
    assert set(arrays) == set(ARRAYS)
    value = arrays[name]
    bad = np.array(value)
    bad.flat[0] = np.nan
    endless = np.array(value)
    endless.flat[-1] = np.inf
    for wrong in (bad, endless, value[:-1], value[..., None], value[:0], np.array(1.0), value.astype(np.float32)):
        refused(tmp_path / "head", changed(content, lambda a, r, wrong=wrong: a.update({name: wrong})))
    refused(tmp_path / "head", changed(content, lambda a, r: a.pop(name)))


@pytest.mark.parametrize("lams", [[-0.1, 0.5, 1], [0, 0.5, 1.1], [0, 0.5, 0.5], [1, 0.5, 0]])
def test_lambda_outside_0_and_1_or_out_of_order_is_refused(content, tmp_path, lams):
    said = refused(tmp_path / "head", changed(content, lambda a, r: a.update({"pref.lams": np.array(lams, float)})))
    assert "λ" in said


@pytest.mark.parametrize("name", ["pref.scale", "router.scale", "length.scale"])
def test_a_scale_that_is_not_positive_is_refused(content, tmp_path, name):
    def change(arrays, record):
        arrays[name] = np.array(arrays[name])
        arrays[name][0] = 0.0

    refused(tmp_path / "head", changed(content, change))


WRONG_RECORDS = {
    "version": lambda r: r.update(version=2),
    "no version": lambda r: r.pop("version"),
    "extra": lambda r: r.update(extra=1),
    "no pair": lambda r: r.pop("pair"),
    "half a pair": lambda r: r["pair"].pop("thinking"),
    "pair": lambda r: r.update(pair="ab"),
    "form": lambda r: r.update(form=["spoken", "x"]),
    "form of numbers": lambda r: r.update(form=["boxed", 3]),
    "short form": lambda r: r.update(form=["boxed"]),
    "layers": lambda r: r["layers"].pop("pref"),
    "layer below 0": lambda r: r["layers"].update(pref=-1),
    "layer of a fraction": lambda r: r["layers"].update(pref=1.5),
    "endless layer": lambda r: r["layers"].update(pref=math.inf),
    "layer in words": lambda r: r["layers"].update(pref="two"),
    "router": lambda r: r["router"].update(bias="x"),
    "endless router": lambda r: r["router"].update(bias=math.inf),
    "large router": lambda r: r["router"].update(bias=10**400),
    "router with more": lambda r: r["router"].update(extra=1.0),
    "router without": lambda r: r["router"].pop("threshold"),
    "length": lambda r: r["length"].update(low=-0.5),
    "length above 1": lambda r: r["length"].update(high=1.5),
    "length upside down": lambda r: r["length"].update(low=0.9, high=0.1),
    "length without": lambda r: r["length"].pop("longest"),
    "confidence": lambda r: r["confidences"][0].update(form="gasp"),
    "confidence without": lambda r: r["confidences"][0].pop("alpha"),
    "confidence with more": lambda r: r["confidences"][0].update(beta=1.0),
    "confidence in words": lambda r: r["confidences"][0].update(alpha="1"),
    "endless confidence": lambda r: r["confidences"][0].update(alpha=math.nan),
    "confidence above 1": lambda r: r["confidences"][0].update(high=1.5),
    "a name of two": lambda r: r["confidences"][0].update(name="pref"),
    "a name of markup": lambda r: r["confidences"][0].update(name="</b>"),
    "a long name": lambda r: r["confidences"][0].update(name="conf" * 9),
    "no name": lambda r: r["confidences"][0].update(name=3),
    "confidences": lambda r: r.update(confidences=5),
    "seen": lambda r: r.update(seen=5),
    "report": lambda r: r.update(report=5),
}


@pytest.mark.parametrize("kind", WRONG_RECORDS)
def test_damage_to_the_record_is_refused(content, tmp_path, kind):
    said = refused(tmp_path / "head", changed(content, lambda a, r: WRONG_RECORDS[kind](r)))
    assert str(tmp_path / "head") in said and "train it again" in said.lower()


def test_an_extra_array_is_refused_and_an_unchanged_file_is_not(content, tmp_path):
    refused(tmp_path / "head", changed(content, lambda a, r: a.update(extra=np.zeros(2))))
    (tmp_path / "head").write_bytes(changed(content, lambda a, r: None))
    Head.open(tmp_path / "head")


def test_random_damage_is_refused_or_read(content, tmp_path):
    """Any byte may be wrong: the file is refused, or it is one that could have been written."""
    rng = np.random.default_rng(0)
    size = 8 + int.from_bytes(content[:8], "little")
    for _ in range(150):
        damaged = bytearray(content)
        damaged[rng.integers(size if rng.random() < 0.8 else len(content))] = rng.integers(256)
        (tmp_path / "head").write_bytes(damaged)
        try:
            Head.open(tmp_path / "head")
        except MullError as error:
            assert "\n" not in str(error)


def test_a_head_replaces_its_file_whole_or_not_at_all(made, content, tmp_path):
    path = tmp_path / "head"
    path.write_bytes(content)
    head = Head.open(path)
    with pytest.raises(TypeError):
        replace(head, report={"a": object()}).save(path)
    assert path.read_bytes() == content
    with pytest.raises(MullError, match="cannot write"):
        head.save(tmp_path / "absent" / "head")
