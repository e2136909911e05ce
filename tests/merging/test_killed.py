"""A merge in a process of its own that is killed, or interrupted, at moments of its own choosing."""

import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from mull.checkpoints.pair import Pair
from mull.merging.coefficients import Coefficients
from mull.merging.streaming import output
from mull.merging.streaming.plan import plan_merge
from mull.merging.streaming.stream import merge

CODE = """
import sys
from pathlib import Path
from mull.checkpoints.pair import Pair
from mull.merging.coefficients import Coefficients
from mull.merging.streaming.plan import plan_merge
from mull.merging.streaming.stream import merge
first = True
def progress(nbytes):
    global first
    if first:
        print("writing", flush=True)
    first = False
pair = Pair.open(sys.argv[1], sys.argv[2])
merge(plan_merge(pair, Coefficients.scalar(0.8)), Path(sys.argv[3]), progress=progress)
"""


class Sides:
    """A pair of some hundred MB in many shards, and what its merge must be."""

    def __init__(self, folder: Path, write: Callable[..., Path], tensors_of: Callable, count: int) -> None:
        self.folder = folder
        for seed, name in enumerate(("instruct", "thinking")):
            big = {f"model.layers.0.mlp.x{i}": torch.randn(1 << 22).bfloat16() for i in range(count)}
            write(folder / name, {**tensors_of(seed), **big}, shards=1 + seed * (count - 1))

    def start(self) -> subprocess.Popen[str]:
        """The process, once it writes its first byte."""
        arguments = [self.folder / name for name in ("instruct", "thinking", "out")]
        process = subprocess.Popen(
            [sys.executable, "-c", CODE, *map(str, arguments)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout and process.stdout.readline() == "writing\n"
        return process


@pytest.fixture(scope="module")
def sides(
    tmp_path_factory: pytest.TempPathFactory, write_checkpoint: Callable, tensors_of: Callable
) -> Iterator[Sides]:
    folder = tmp_path_factory.mktemp("killed")
    made = Sides(folder, write_checkpoint, tensors_of, count=10)
    pair = Pair.open(str(folder / "instruct"), str(folder / "thinking"))
    merge(plan_merge(pair, Coefficients.scalar(0.8)), folder / "wanted")
    yield made
    for path in folder.rglob("*.safetensors"):
        path.unlink()


def check_result(sides: Sides, digests: Callable) -> None:
    assert digests(sides.folder / "out") == digests(sides.folder / "wanted")
    assert {path.name for path in sides.folder.iterdir()} == {"instruct", "thinking", "wanted", "out"}
    for path in (sides.folder / "out").iterdir():
        path.unlink()
    (sides.folder / "out").rmdir()


def kill_until_done(sides: Sides, kills: int, generator: random.Random) -> int:
    """Start and kill `kills` times, then let it finish; returns how many kills struck while it ran."""
    struck = 0
    for _ in range(kills):
        process = sides.start()
        time.sleep(generator.uniform(0, 0.25))
        process.kill()
        struck += process.wait() == -signal.SIGKILL
        if (sides.folder / "out").exists():
            return struck
        assert output.partial_folder(sides.folder / "out").is_dir()
    process = sides.start()
    assert process.wait() == 0
    return struck


def test_killed_and_started_again(sides: Sides, digests: Callable) -> None:
    assert kill_until_done(sides, 1, random.Random())
    check_result(sides, digests)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_killed_many_times(sides: Sides, digests: Callable, seed: int) -> None:
    assert kill_until_done(sides, 4, random.Random(seed))
    check_result(sides, digests)


def test_interrupted_and_started_again(sides: Sides, digests: Callable) -> None:
    process = sides.start()
    process.send_signal(signal.SIGINT)
    process.wait()
    assert process.returncode in (-signal.SIGINT, 1, 130)
    assert not (sides.folder / "out").exists()
    assert sides.start().wait() == 0
    check_result(sides, digests)
