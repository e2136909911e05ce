"""Elements of tensors in place: the same as read ones, and what happens when the file under them goes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from mull.checkpoints import blocks
from mull.checkpoints.blocks import Buffer, Files
from mull.checkpoints.headers import ITEM_BYTES, TensorInfo
from mull.errors import MullError

PAGE = os.sysconf("SC_PAGESIZE")
MANY = 100_000
mapped = pytest.mark.usefixtures("mapped")


@pytest.fixture
def info(tmp_path: Path) -> TensorInfo:
    """A tensor of float32 numbers behind 40 bytes of something else."""
    file = tmp_path / "numbers"
    file.write_bytes(bytes(40) + np.arange(MANY, dtype=np.float32).tobytes())
    return TensorInfo("numbers", "F32", (MANY,), file, 40, 4 * MANY)


def lies_in(tensor: torch.Tensor, buffer: Buffer) -> bool:
    start = np.frombuffer(buffer.bytes, np.uint8).ctypes.data
    return start <= tensor.data_ptr() < start + len(buffer.bytes)


@pytest.mark.parametrize("dtype", ITEM_BYTES)
@pytest.mark.parametrize("start", [0, 8, 9])
def test_elements_are_those_of_the_file(tmp_path: Path, dtype: str, start: int) -> None:
    item = ITEM_BYTES[dtype]
    content = np.random.default_rng(0).integers(0, 2, start + 1000 * item, np.uint8).tobytes()
    file = tmp_path / "any"
    file.write_bytes(content)
    info = TensorInfo("any", dtype, (1000,), file, start, 1000 * item)
    wanted = content[start + 17 * item : start + 517 * item]
    for mapping in (True, False):
        with Files(mapped=mapping) as files:
            files.open(file)
            buffer = Buffer(500 * item)
            found = files.elements(info, 17, 500, buffer)
            assert found.shape == (500,) and found.element_size() == item
            assert found.view(torch.uint8).numpy().tobytes() == wanted
            assert lies_in(found, buffer) == (not mapping or blocks.compiled is None or start % item > 0)
            files.check([file])


def test_runs(info: TensorInfo, way: str) -> None:
    starts = np.array([0, 99_990, 17, 17, 50_000])
    into = np.empty((5, 10), np.float32)
    with Files() as files:
        files.open(info.file)
        files.read_runs(info, starts, 10, memoryview(into).cast("B"))
        assert np.array_equal(into, starts[:, None] + np.arange(10))
        os.truncate(info.file, 300_000)
        with pytest.raises(MullError, match="became shorter while it was read"):
            files.read_runs(info, starts, 10, memoryview(into).cast("B"))


def test_writing_back_changes_nothing(tmp_path: Path, way: str) -> None:
    with (tmp_path / "any").open("wb", buffering=0) as file:
        file.write(bytes(range(256)) * 64)
        blocks.write_back(file.fileno(), 0, 1 << 14)
        blocks.write_back(file.fileno(), 1 << 20, 1)
    assert (tmp_path / "any").read_bytes() == bytes(range(256)) * 64


@mapped
@pytest.mark.parametrize(("count", "length"), [(3, 100), (4, 1 << 62)])  # 4 · 2⁶² is 0 in 64 bits
def test_there_must_be_room_for_runs(info: TensorInfo, count: int, length: int) -> None:
    with Files() as files, pytest.raises(ValueError, match="no room"):
        blocks.compiled.read_runs(files.open(info.file), np.zeros(count, np.int64), length, bytearray(299))


@mapped
def test_what_is_looked_at_does_not_pile_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def held() -> int:
        """MB of files in this process's memory."""
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) // 1024 for line in lines if line.startswith("RssFile:"))

    def grown() -> int:
        before, most = held(), 0
        with Files() as files:
            files.open(file)
            for first in range(0, 96 << 20, 1 << 20):
                files.elements(info, first, 1 << 20, Buffer(1)).sum()
                most = max(most, held() - before)
        return most

    file = tmp_path / "large"
    file.write_bytes(bytes(96 << 20))
    info = TensorInfo("large", "U8", (96 << 20,), file, 0, 96 << 20)
    monkeypatch.setattr(blocks, "_MAX_RESIDENT", 16 << 20)
    assert grown() < 32
    monkeypatch.setattr(blocks, "_MAX_RESIDENT", 1 << 40)
    assert grown() > 64


@mapped
def test_a_tensor_outlives_its_files(info: TensorInfo) -> None:
    with Files() as files:
        files.open(info.file)
        numbers = files.elements(info, 0, MANY, Buffer(1))
    assert torch.equal(numbers, torch.arange(MANY, dtype=torch.float32))


@mapped
@pytest.mark.parametrize("left", [PAGE, 3 * PAGE + 100, 40 + 4 * MANY - 1])
def test_a_file_that_is_cut(info: TensorInfo, left: int) -> None:
    with Files() as files:
        files.open(info.file)
        numbers = files.elements(info, 0, MANY, Buffer(1))
        assert numbers[0] == 0
        os.truncate(info.file, left)
        assert numbers.sum() < MANY**2  # no crash
        with pytest.raises(MullError, match="became shorter while it was read"):
            files.check([info.file])
    with Files() as files, pytest.raises(MullError, match="became shorter while it was read"):
        files.open(info.file)
        files.elements(info, 0, MANY, Buffer(1))


@mapped
def test_pages_that_cannot_be_read(info: TensorInfo) -> None:
    with Files() as files:
        files.open(info.file)
        first = files.elements(info, 0, 100, Buffer(1))
        rest = files.elements(info, 100, MANY - 100, Buffer(1))
        size = info.file.stat().st_size
        os.truncate(info.file, 0)
        assert rest.double().sum() == 0  # in torch's kernels
        os.truncate(info.file, size)  # as long as before, as on a disk that fails
        with pytest.raises(MullError, match=r"cannot read .*numbers: Input/output error"):
            files.check([info.file])
        assert first.tolist() == [0.0] * 100


@mapped
def test_another_file_is_not_affected(info: TensorInfo, tmp_path: Path) -> None:
    other = info._replace(file=tmp_path / "other")
    other.file.write_bytes(info.file.read_bytes())
    with Files() as files:
        for each in (info, other):
            files.open(each.file)
        numbers = [files.elements(each, 0, MANY, Buffer(1)) for each in (info, other)]
        os.truncate(info.file, 0)
        assert numbers[0].sum() == 0
        assert torch.equal(numbers[1], torch.arange(MANY, dtype=torch.float32))
        files.check([other.file])
        with pytest.raises(MullError):
            files.check([info.file])


def test_where_nothing_can_be_mapped(info: TensorInfo, monkeypatch: pytest.MonkeyPatch) -> None:
    class Never:
        def __init__(self, descriptor: int, length: int) -> None:
            raise OSError("no such thing here")

    with Files() as files:
        files._mapping_type = Never
        files.open(info.file)
        buffer = Buffer(4 * MANY)
        assert lies_in(files.elements(info, 0, MANY, buffer), buffer)
        files.check([info.file])


FOREIGN = """
import faulthandler, mmap, os, signal, sys
from pathlib import Path
from mull.checkpoints import _files
ours, theirs, order = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
def map_ours():
    descriptor = os.open(ours, os.O_RDONLY)
    return _files.Mapping(descriptor, os.fstat(descriptor).st_size)
def handle():
    if "python" in order:
        signal.signal(signal.SIGBUS, lambda *_: print("python's", flush=True))
    if "faulthandler" in order:
        faulthandler.enable()
if order.endswith("first"):
    handle()
held = [map_ours()]
if order.endswith("later"):
    handle()
    held.append(map_ours())
if "sent" in order:
    os.kill(os.getpid(), signal.SIGBUS)
    os.kill(os.getpid(), signal.SIGBUS)
    os.truncate(ours, 0)
    print(memoryview(held[0])[5000], held[0].damaged(), flush=True)
with theirs.open("rb") as file:
    there = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
os.truncate(theirs, 0)
print("before", flush=True)
print(there[0])
"""


@mapped
@pytest.mark.parametrize("order", ["none", "faulthandler first", "faulthandler later", "sent to python first"])
def test_other_bus_errors_end_as_they_would(info: TensorInfo, tmp_path: Path, order: str) -> None:
    """Those of memory that is not ours go to whoever handled them before, and then end the process."""
    theirs = tmp_path / "theirs"
    theirs.write_bytes(bytes(PAGE))
    command = [sys.executable, "-c", FOREIGN, str(info.file), str(theirs), order]
    if "python" in order:  # Python's own handler notes the signal, and the instruction fails for ever
        command[2] = FOREIGN.replace("print(there[0])", "")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if "python" in order:
        assert (done.returncode, done.stdout.split("\n")[:3]) == (0, ["python's", "python's", "0 True"]), done.stderr
        return
    assert done.returncode == -signal.SIGBUS, done.stderr
    assert done.stdout == "before\n"
    assert done.stderr.count("Fatal Python error: Bus error") == ("faulthandler" in order)
