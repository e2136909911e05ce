"""Real vLLM as the engine of whole sweeps on the built-in pair, in their process and as a server."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from mull.analysis.paired import paired_difference
from mull.analysis.records import Sample
from mull.runs.store import DATABASE, RunStore
from mull.thinking import split_thinking
from mull.tiny import checkpoint_folder
from tests.engines.vllm.in_place.apart import ENVIRONMENT

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(1500)]

PAIR = ["--instruct", str(checkpoint_folder("instruct")), "--thinking", str(checkpoint_folder("thinking"))]
ENGINES = {
    "local": [],
    "local unrounded": ["--arithmetic", "unrounded"],
    **{
        f"{name} vLLM": [*options, "--engine-option", "enforce_eager=true", "--batch-size", "16"]
        for name, options in {
            "rounded": ["--engine", "vllm"],
            "unrounded": ["--engine", "vllm", "--arithmetic", "unrounded"],
            "served": ["--engine", "vllm-server"],
        }.items()
    },
}
GREEDY = ["--lambdas", "0,0.6,1", "--questions", "12", "-k", "1", "--temperature", "0"]


def command(verb: list[str], run: Path, engine: str) -> list[str]:
    return [sys.executable, "-m", "mull", *verb, *PAIR, "--run", str(run), *ENGINES[engine]]


def environment() -> dict[str, str]:
    return {**os.environ, **ENVIRONMENT}


def sampled(folder: Path, engine: str, *options: str, verb: str = "sweep") -> list[Sample]:
    """All samples of a run, in the order of their questions and settings."""
    run = folder / f"{verb}-{engine}".replace(" ", "-")
    words = command([*verb.split(), *options], run, engine)
    found = subprocess.run(words, capture_output=True, text=True, env=environment(), check=False)
    assert found.returncode == 0, found.stderr[-3000:]
    return records(run)


def records(run: Path) -> list[Sample]:
    with RunStore.open(run) as store:
        return sorted(store.samples(), key=lambda each: (each.setting, each.question, each.index))


def parts(sample: Sample) -> list[str]:
    """Thought and answer. Servers give them apart, and blanks between them are lost."""
    found = split_thinking(sample.text, finished=sample.finish == "stop")
    return [found.thought.strip(), found.answer.strip()]


def same_texts(a: list[Sample], b: list[Sample]) -> float:
    """Share of samples whose thoughts and answers are equal."""
    assert [(each.setting, each.question, each.index) for each in a] == [
        (each.setting, each.question, each.index) for each in b
    ]
    return sum(parts(one) == parts(other) for one, other in zip(a, b, strict=True)) / len(a)


@pytest.mark.parametrize(
    ("engine", "beside"),
    [("rounded vLLM", "local"), ("unrounded vLLM", "local unrounded"), ("served vLLM", "local unrounded")],
)
def test_greedy_texts_are_those_of_the_local_engine(tmp_path: Path, engine: str, beside: str):
    """Two tokens that are almost equally likely may fall either way in another library: one text of 36."""
    found, expected = sampled(tmp_path, engine, *GREEDY), sampled(tmp_path, beside, *GREEDY)
    assert same_texts(found, expected) >= 35 / 36
    assert sum(a.tokens == b.tokens for a, b in zip(found, expected, strict=True)) >= 35


@pytest.mark.parametrize("engine", ["rounded vLLM", "served vLLM"])
def test_a_thinking_budget_closes_thoughts_as_in_the_local_engine(tmp_path: Path, engine: str):
    options = ["--lambdas", "1", "--questions", "12", "-k", "1", "--temperature", "0", "--thinking-budget", "15"]
    found, expected = sampled(tmp_path, engine, *options), sampled(tmp_path, "local", *options)
    assert sum(each.thinking == "forced" for each in expected) > 3
    assert [each.thinking for each in found] == [each.thinking for each in expected]
    assert same_texts(found, expected) >= 11 / 12


def test_sampled_accuracy_and_length_lie_within_the_paired_interval_of_the_local_engines(tmp_path: Path):
    """99.9 % intervals: six are looked at."""
    options = ["--lambdas", "0,0.5,1", "--questions", "40", "-k", "3"]
    local, vllm = sampled(tmp_path, "local", *options), sampled(tmp_path, "rounded vLLM", *options)
    for setting in ("0", "0.5", "1"):
        both = [replace(each, setting="local") for each in local if each.setting == setting]
        both += [replace(each, setting="vllm") for each in vllm if each.setting == setting]
        for value in ("correct", "tokens"):
            difference = paired_difference(both, "vllm", "local", value).corrected(50)
            assert difference.tie, (setting, value, difference)
        assert same_texts(both[:120], [replace(each, setting="local") for each in both[120:]]) < 0.9  # other draws


@pytest.mark.parametrize("verb", ["ablate modules", "ablate decoding", "compare"])
def test_other_studies_run(tmp_path: Path, verb: str):
    found = sampled(tmp_path, "rounded vLLM", "--questions", "4", "-k", "1", "--max-tokens", "40", verb=verb)
    expected = sampled(tmp_path, "local", "--questions", "4", "-k", "1", "--max-tokens", "40", verb=verb)
    assert {each.setting for each in found} == {each.setting for each in expected}
    assert len(found) == len(expected) > 8


def test_choosing_runs_on_a_server(tmp_path: Path):
    run = tmp_path / "run"
    verb = ["choose", "--budget", "60", "--questions", "40", "-k", "2", "--lambdas", "0,0.4,0.6,0.8,1"]
    found = subprocess.run(
        command(verb, run, "served vLLM"), capture_output=True, text=True, env=environment(), check=False
    )
    assert found.returncode == 0, found.stderr[-3000:]
    assert "λ" in found.stdout


def children(pid: int) -> Iterator[int]:
    """All processes below one, the nearest first."""
    for each in Path("/proc").glob("[0-9]*/stat"):
        try:
            number, parent = int(each.parent.name), int(each.read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError, IndexError):
            continue
        if parent == pid:
            yield number
            yield from children(number)


def wait_for_records(run: Path, process: subprocess.Popen[bytes], many: int) -> None:
    """Until so many responses are on record."""
    while True:
        assert process.poll() is None, "it ended before it was stopped"
        try:
            with sqlite3.connect(f"file:{run / DATABASE}?mode=ro", uri=True) as connection:
                if connection.execute("SELECT COUNT(*) FROM samples").fetchone()[0] >= many:
                    return
        except sqlite3.OperationalError:
            pass
        time.sleep(0.05)


def ended(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@pytest.mark.parametrize("engine", ["rounded vLLM", "served vLLM"])
@pytest.mark.parametrize("killed", ["mull", "vLLM"])
def test_a_run_goes_on_after_either_side_was_killed(tmp_path: Path, engine: str, killed: str):
    run = tmp_path / "run"
    words = command(["sweep", "--lambdas", "0.6,1", "--questions", "40", "-k", "4"], run, engine)
    process = subprocess.Popen(words, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    wait_for_records(run, process, 30)
    below = list(children(process.pid))
    assert below, "vLLM's processes"
    if killed == "mull":
        process.kill()
    else:
        for each in below:
            os.kill(each, signal.SIGKILL)
    _, said = process.communicate(timeout=600)
    assert process.returncode == (-signal.SIGKILL if killed == "mull" else 2), said.decode()[-2000:]
    if killed == "vLLM":
        assert said.decode().strip().splitlines()[-1].startswith("mull: ")
    until = time.monotonic() + 60
    while time.monotonic() < until and not all(map(ended, below)):
        time.sleep(0.2)
    assert all(map(ended, below)), "nothing of vLLM stays"
    kept = records(run)
    assert 30 <= len(kept) < 320
    found = subprocess.run(words, capture_output=True, text=True, env=environment(), check=False)
    assert found.returncode == 0, found.stderr[-3000:]
    everything = records(run)
    assert len(everything) == 320
    assert set(kept) <= set(everything)


SHARED = """
from mull.engines.base import Request, Sampling
from mull.engines.vllm.engine import VllmEngine
from mull.merging.coefficients import Coefficients
from mull.tiny import checkpoint_folder

folders = {side: checkpoint_folder(side) for side in ("instruct", "thinking")}
engine = VllmEngine(folders, batch_size=8, context=600, options={"enforce_eager": True, "block_size": 32})
seen, take = {}, engine._take

def watched(row, output):
    seen[output.request_id] = output.num_cached_tokens
    return take(row, output)

engine._take = watched
for lam in (0.3, 0.8):
    engine.set_weights(Coefficients.scalar(lam))
    prompt, sampling = tuple(6 + i * 7 % 140 for i in range(300)), Sampling(max_tokens=10)
    list(engine.generate(Request(id=str(i), prompt_ids=prompt, seed=i, sampling=sampling) for i in range(4)))
print(list(seen.values()))
"""


def test_samples_of_a_prompt_share_its_keys_and_values_at_one_lambda(tmp_path: Path):
    apart = {**environment(), "VLLM_ENABLE_V1_MULTIPROCESSING": "0"}
    found = subprocess.run(
        [sys.executable, "-c", SHARED], capture_output=True, text=True, env=apart, cwd=tmp_path, check=False
    )
    assert found.returncode == 0, found.stderr[-3000:]
    assert found.stdout.splitlines()[-1] == "[0, 288, 288, 288, 0, 288, 288, 288]"
