import json
import struct
import tempfile
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file

from mull.checkpoints.headers import ITEM_BYTES, layout_header, read_header, same_bytes
from mull.errors import MullError


def write(path: Path, header: Any, data: bytes = b"") -> Path:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(raw)) + raw + data)
    return path


def entry(begin: int, end: int, shape: list[Any] | None = None, dtype: Any = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": [(end - begin) // 4] if shape is None else shape, "data_offsets": [begin, end]}


def test_what_the_safetensors_library_wrote(tmp_path: Path) -> None:
    tensors = {
        "matrix": torch.randn(3, 5),
        "scalar": torch.tensor(2.5, dtype=torch.bfloat16),
        "empty": torch.zeros(0, 4, dtype=torch.float16),
        "steps": torch.arange(7),
    }
    save_file(tensors, tmp_path / "x.safetensors", {"format": "pt"})
    read, metadata = read_header(tmp_path / "x.safetensors")
    assert metadata == {"format": "pt"}
    assert {n: (t.dtype, t.shape) for n, t in read.items()} == {
        "matrix": ("F32", (3, 5)), "scalar": ("BF16", ()), "empty": ("F16", (0, 4)), "steps": ("I64", (7,)),
    }  # fmt: skip
    data = (tmp_path / "x.safetensors").read_bytes()
    for name in ("matrix", "steps"):
        info = read[name]
        assert data[info.start : info.start + info.nbytes] == tensors[name].numpy().tobytes()


def test_the_safetensors_library_reads_what_is_laid_out(tmp_path: Path) -> None:
    head, spans = layout_header([("a", "F32", (2, 2)), ("s", "BF16", ()), ("e", "F16", (0,)), ("α", "U8", (3,))])
    assert len(head) % 8 == 0
    path = tmp_path / "x.safetensors"
    path.write_bytes(head + bytes(range(16)) + b"\x80\x3f" + b"\x01\x02\x03")
    assert spans["s"] == (len(head) + 16, 2)
    with safe_open(path, "pt") as file:
        assert file.get_tensor("s") == 1
        assert file.get_tensor("α").tolist() == [1, 2, 3]
        assert file.get_tensor("e").shape == (0,)
    assert read_header(path)[0]["α"].start == spans["α"][0]


@pytest.mark.parametrize(
    ("header", "data", "said"),
    [
        (b"\x93\x00 no json", b"", "corrupt"),
        (b'"text"', b"", "corrupt"),
        (b"[1, 2]", b"", "corrupt"),
        (b"[" * 90_000, b"", "corrupt"),
        (b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'.decode().encode("utf-16"), b"0123", "corrupt"),
        (b'{"\\ud800":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}', b"0123", "corrupt"),
        ({"a": {"dtype": "F32", "shape": [1]}}, b"", "corrupt"),
        ({"a": {"dtype": "F32", "shape": "1", "data_offsets": [0, 4]}}, b"0123", "corrupt"),
        ({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4, 8]}}, b"0123", "corrupt"),
        ({"a": entry(0, 4, [True])}, b"0123", "corrupt"),
        ({"a": entry(0, 4, [1.0])}, b"0123", "corrupt"),
        ({"a": entry(0, 4, dtype=["F32"])}, b"0123", "corrupt"),
        ({"a": entry(0, 4, [-1, -1])}, b"0123", "corrupt"),
        ({"a": entry(0, 4, [10**4000])}, b"0123", "corrupt"),
        ({"__metadata__": {"n": 1}, "a": entry(0, 4)}, b"0123", "corrupt"),
        ({"a": entry(0, 4, [2])}, b"0123", "has 4 bytes"),
        ({"a": entry(0, 8), "b": entry(4, 12)}, b"0" * 12, "starts at byte 4"),
        ({"a": entry(0, 4), "b": entry(8, 12)}, b"0" * 12, "starts at byte 8"),
        ({"a": entry(4, 0, [1])}, b"0" * 4, "starts at byte 4"),
        ({"a": entry(0, 4)}, b"012", "cut short"),
        ({"a": entry(0, 4)}, b"01234", "cut short"),
        ({"a": entry(0, 4, [1], "BF61")}, b"0123", "unknown dtype"),
    ],
)  # fmt: skip
def test_a_corrupt_header_is_refused(tmp_path: Path, header: Any, data: bytes, said: str) -> None:
    with pytest.raises(MullError, match=said):
        read_header(write(tmp_path / "x.safetensors", header, data))


def test_a_huge_length_is_not_believed(tmp_path: Path) -> None:
    for length in (2**63, 2**64 - 1, 99_000_000, 3):
        (tmp_path / "x").write_bytes(struct.pack("<Q", length) + b"{}")
        with pytest.raises(MullError, match="claims"):
            read_header(tmp_path / "x")


def test_no_file_no_permission_or_too_short(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(MullError, match="cannot read"):
            read_header(path)
    (tmp_path / "short").write_bytes(b"1234567")
    with pytest.raises(MullError, match="only 7 bytes"):
        read_header(tmp_path / "short")


def test_tensors_with_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mull.checkpoints.headers._COMPARED", 8)
    values = torch.arange(25.0)
    changed = values.clone()
    changed[24] = 0
    tensors = {
        "a": values,
        "same": values.clone(),
        "last": changed,
        "shape": values.view(5, 5).clone(),
        "bits": values.int(),
    }
    save_file({**tensors, "zero": torch.zeros(0)}, tmp_path / "x.safetensors")
    infos, _ = read_header(tmp_path / "x.safetensors")
    assert {name: same_bytes(infos["a"], infos[name]) for name in tensors} == {
        "a": True, "same": True, "last": False, "shape": False, "bits": False,
    }  # fmt: skip
    assert same_bytes(infos["zero"], infos["zero"])


numbers = st.one_of(st.integers(-2, 40), st.integers(2**31, 2**66), st.floats(), st.booleans(), st.none())
json_values = st.recursive(
    st.one_of(numbers, st.text(max_size=4)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=4), inner, max_size=3)),
    max_leaves=8,
)
near_entries = st.fixed_dictionaries(
    {
        "dtype": st.one_of(st.sampled_from(["F4", "F6_E2M3", *ITEM_BYTES]), json_values),
        "shape": st.one_of(st.lists(numbers, max_size=3), json_values),
        "data_offsets": st.one_of(st.lists(numbers, min_size=2, max_size=2), json_values),
    }
)
headers = st.one_of(
    st.binary(max_size=64),
    json_values.map(lambda value: json.dumps(value).encode()),
    st.dictionaries(st.text(max_size=3), st.one_of(near_entries, json_values), max_size=3).map(
        lambda value: json.dumps(value).encode()
    ),
)


@given(st.one_of(st.binary(max_size=64), st.tuples(headers, st.binary(max_size=40)).map(
    lambda parts: struct.pack("<Q", len(parts[0])) + parts[0] + parts[1]
)))  # fmt: skip
def test_any_bytes_give_a_sound_header_or_an_error(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "x.safetensors")
        path.write_bytes(data)
        tracemalloc.start()
        try:
            tensors, metadata = read_header(path)
        except MullError:
            return
        finally:
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            assert peak < 1 << 20
    assert isinstance(metadata, dict)
    assert all(8 <= t.start <= t.start + t.nbytes <= len(data) and t.numel >= 0 for t in tensors.values())
