"""A merge in a process of its own that is killed, or interrupted, at moments of its own choosing."""

import math
import random
import signal
import subprocess
import sys
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
import signal, sys
from pathlib import Path
from threading import Event
from mull.checkpoints.pair import Pair
from mull.merging.coefficients import Coefficients
from mull.merging.streaming.plan import plan_merge
from mull.merging.streaming.stream import merge
interrupted = Event()
def note(*_):
    interrupted.set()
    raise KeyboardInterrupt
signal.signal(signal.SIGINT, note)
told, held, done = float(sys.argv[4]), float(sys.argv[5]), 0
def progress(nbytes):
    global done
    done += nbytes
    if done >= told > done - nbytes:
        print("there", flush=True)
    if done >= held:
        interrupted.wait()
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
        told: list[int] = []
        pair = Pair.open(str(folder / "instruct"), str(folder / "thinking"))
        merge(plan_merge(pair, Coefficients.scalar(0.8)), folder / "wanted", progress=told.append)
        self.work = sum(told)

    def start(self, told: float = 0.0, held: float = math.inf) -> subprocess.Popen[str]:
        """The process, once it has done the share `told` of its work; at the share `held` it waits for its end."""
        paths = [self.folder / name for name in ("instruct", "thinking", "out")]
        arguments = map(str, (*paths, max(1, told * self.work), held * self.work))
        process = subprocess.Popen([sys.executable, "-c", CODE, *arguments], stdout=subprocess.PIPE, text=True)
        assert process.stdout and process.stdout.readline() == "there\n"
        return process


@pytest.fixture(scope="module")
def sides(
    tmp_path_factory: pytest.TempPathFactory, write_checkpoint: Callable, tensors_of: Callable
) -> Iterator[Sides]:
    folder = tmp_path_factory.mktemp("killed")
    yield Sides(folder, write_checkpoint, tensors_of, count=10)
    for path in folder.rglob("*.safetensors"):
        path.unlink()


def check_result(sides: Sides, digests: Callable) -> None:
    assert digests(sides.folder / "out") == digests(sides.folder / "wanted")
    assert {path.name for path in sides.folder.iterdir()} == {"instruct", "thinking", "wanted", "out"}
    for path in (sides.folder / "out").iterdir():
        path.unlink()
    (sides.folder / "out").rmdir()


def kill_until_done(sides: Sides, kills: int, generator: random.Random) -> int:
    """Start and kill `kills` times, then let it finish; returns how many kills struck while it ran.

    The first one always does; the others may come after the last byte is written, and then in time or too late.
    """
    struck = 0
    for i in range(kills):
        told = generator.uniform(0, 1)
        process = sides.start(told, min(1, told + 0.1) if i == 0 else math.inf)
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
    process = sides.start(held=0.5)
    process.send_signal(signal.SIGINT)
    process.wait()
    assert process.returncode in (-signal.SIGINT, 1, 130)
    assert not (sides.folder / "out").exists()
    assert sides.start().wait() == 0
    check_result(sides, digests)
