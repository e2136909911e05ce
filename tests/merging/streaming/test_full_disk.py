"""A file system that is really full: a small tmpfs, where one may be mounted."""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from mull.errors import MullError
from mull.merging.streaming.plan import MergePlan
from mull.merging.streaming.stream import merge

SIZE = 6 << 20


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    if (
        not shutil.which("mount")
        or subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(folder)], capture_output=True
        ).returncode
    ):
        pytest.skip("no permission to mount a tmpfs")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture
def three_megabytes(planned: Callable, tensors_of: Callable) -> MergePlan:
    sides = [{**tensors_of(s), **{f"model.x{i}": torch.randn(1 << 19).bfloat16() for i in range(3)}} for s in (0, 1)]
    return planned(0.8, instruct={"tensors": sides[0]}, thinking={"tensors": sides[1], "shards": 3})


def test_the_check_comes_first(small_disk: Path, three_megabytes: MergePlan) -> None:
    (small_disk / "filler").write_bytes(b"\0" * (3 << 20))
    with pytest.raises(MullError, match="not enough disk space"):
        merge(three_megabytes, small_disk / "out")
    assert list(small_disk.iterdir()) == [small_disk / "filler"]


@pytest.mark.parametrize("moment", ["reserving", "companions"])
def test_space_that_vanishes_midway(
    small_disk: Path, three_megabytes: MergePlan, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill(*_: object, **__: object) -> None:
        free = shutil.disk_usage(small_disk).free
        (small_disk / "filler").write_bytes(b"\0" * (free - (1 << 20 if moment == "reserving" else 0)))

    if moment == "reserving":
        monkeypatch.setattr(MergePlan, "check_space", fill)
    else:
        monkeypatch.setattr(MergePlan, "check_unchanged", fill)
    with pytest.raises(MullError, match="is full"):
        merge(three_megabytes, small_disk / "out")
    assert list(small_disk.iterdir()) == [small_disk / "filler"]
    monkeypatch.undo()
    (small_disk / "filler").unlink()
    merge(three_megabytes, small_disk / "out")
