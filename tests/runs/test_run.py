"""Sweeps on the built-in pair with the real engine: complete, resumable after kill -9, equal to an unbroken run."""

import io
import json
import os
import re
import shutil
import signal
from types import SimpleNamespace

import pytest
from rich.console import Console

from mull import interrupt
from mull.api.progress.bars import item_progress
from mull.api.progress.terminal import Terminal
from mull.benchmarks import load_benchmark
from mull.checkpoints.pair import Pair
from mull.engines.base import Sampling
from mull.merging.coefficients import Coefficients
from mull.runs.plan import SweepPlan
from mull.runs.run import render_prompts
from mull.runs.sessions import session
from mull.runs.sessions.loading import LocalLoader
from mull.runs.settings import Setting
from mull.runs.store import RunStore
from mull.tiny import checkpoint_folder

from ..running import mull, process, started, wait_for_responses

ENDS = ["--instruct", str(checkpoint_folder("instruct")), "--thinking", str(checkpoint_folder("thinking"))]


def sweep(run, *options):
    return mull("sweep", *ENDS, "--run", run, *options)


def texts(run):
    with RunStore.open(run) as store:
        return {(s.setting, s.question, s.index): s.text for s in store.samples()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    run = tmp_path_factory.mktemp("whole") / "run"
    done = process("sweep", *ENDS, "--run", run, *SIZE)
    assert done.returncode == 0, done.stderr
    return run, done.stdout


SIZE = ("--lambdas", "0,0.5,1", "--questions", "14", "-k", "4", "--max-tokens", "600")


def test_a_sweep_holds_every_sample_of_its_plan(whole):
    run, output = whole
    with RunStore.open(run) as store:
        samples = store.samples()
        questions = store.questions
    assert {(s.setting, s.question, s.index) for s in samples} == {
        (setting, question, i) for setting in ("0", "0.5", "1") for question in questions for i in range(4)
    }
    assert all(s.tokens > 0 and s.finish in ("stop", "length") for s in samples)
    assert "mull report" in output


def test_the_ends_think_and_do_not_think(whole):
    run, _ = whole
    with RunStore.open(run) as store:
        samples = store.samples()
    closed = {lam: [s.thinking == "closed" for s in samples if s.lam == lam] for lam in (0.0, 1.0)}
    assert not any(closed[0.0])
    assert sum(closed[1.0]) >= 0.9 * len(closed[1.0])


@pytest.mark.parametrize("stop", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_sweep_goes_on_and_ends_as_if_unbroken(whole, tmp_path, stop):
    run = tmp_path / "run"
    under_way = started("sweep", *ENDS, "--run", run, *SIZE)
    wait_for_responses(run, 20, under_way)
    os.kill(under_way.pid, stop)
    _, errors = under_way.communicate()
    kept = texts(run)
    assert 20 <= len(kept) < 168
    if stop == signal.SIGINT:
        assert under_way.returncode == 130
        assert "Traceback" not in errors
    done = sweep(run, *SIZE)
    assert done.returncode == 0, done.stderr
    assert f"going on from {len(kept)} of 168" in done.stderr
    assert texts(run) == texts(whole[0])


def test_a_complete_run_is_not_sampled_again(whole):
    run, _ = whole
    before = texts(run)
    done = sweep(run, *SIZE)
    assert done.returncode == 0
    assert "is complete" in done.stderr
    assert texts(run) == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--lambdas", "0,1.5"], "lambda must lie in [0, 1], got 1.5"),
        (["--lambdas", "a:b"], "cannot read the lambdas"),
        (["--lambdas", "0:1:0.3"], "do not lead from 0 to 1"),
        (["--max-tokens", "0"], "--max-tokens"),
        (["--max-tokens", "1000", "--questions", "7"], "--max-tokens 1000 does not fit: the model's context is 1,024"),
        (["--questions", "10000000"], "has 20,000 different questions"),
        (["--device", "cuda:77"], "cuda:77"),
        (["--benchmark", "aime"], "unknown benchmark 'aime'"),
        (["--layers", "3-9"], "reach beyond the model, which has 6 layers"),
        (["--modules", "lm_head"], "no parameter matches"),
        (["--modules", "atention"], "Did you mean 'attention'"),
        (["--temperature", "-1"], "temperature must be"),
        (["-k", "0"], "-k"),
    ],
)
def test_wrong_input_is_one_sentence_and_leaves_nothing(tmp_path, options, message):
    done = sweep(tmp_path / "run", *options)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()


def test_a_benchmarks_own_limit_that_does_not_fit_is_said_to_be_lower(tmp_path):
    ends = []
    for side in ("instruct", "thinking"):
        folder = shutil.copytree(checkpoint_folder(side), tmp_path / side)
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 128}))
        ends += [f"--{side}", str(folder)]
    done = sweep(tmp_path / "run", *ends, "--lambdas", "1", "--questions", "7", "-k", "1")
    assert done.returncode == 0, done.stderr
    said = re.search(
        r"limit per response: (\d+) tokens, not the benchmark's 768: .* 128 tokens, .* takes (\d+)", done.stderr
    )
    assert said and int(said[1]) + int(said[2]) == 128
    with RunStore.open(tmp_path / "run") as store:
        cut = [s.tokens for s in store.samples() if s.finish == "length"]
    assert cut and min(cut) >= int(said[1])


def test_what_comes_before_the_first_response_is_shown(tmp_path):
    """Drawing many questions and rendering their prompts takes long enough for a person to wonder."""
    console = Console(file=io.StringIO(), force_terminal=True, width=120)
    pair = Pair.open(str(checkpoint_folder("instruct")), str(checkpoint_folder("thinking")))
    benchmark = load_benchmark("tiny", questions=7)
    plan = SweepPlan(pair, [Setting.of(Coefficients.scalar(0.0))], benchmark, 1, Sampling(max_tokens=32))
    assert len(session.sweep(plan, tmp_path / "run", LocalLoader(), Terminal(console))) == 7
    shown = console.file.getvalue()
    labels = ("drawing the questions", "reading the tokenizer", "preparing the prompts", "loading the checkpoints")
    assert [label for label in labels if label in shown] == list(labels)


def test_ctrl_c_ends_the_rendering_of_prompts(monkeypatch):
    """Also where the KeyboardInterrupt itself was swallowed inside a template engine."""
    monkeypatch.setattr(interrupt, "_seen", True)
    benchmark = load_benchmark("tiny", questions=7)
    plan = SimpleNamespace(benchmark=benchmark)
    rendered = []
    engine = SimpleNamespace(render=lambda messages: rendered.append(1) or (1,))
    with (
        pytest.raises(KeyboardInterrupt),
        item_progress("preparing", 7, Console(file=io.StringIO())) as advance,
    ):
        render_prompts(plan, engine, advance)  # type: ignore[arg-type]
    assert len(rendered) == 1


def test_a_run_of_another_plan_is_refused_with_the_difference(whole):
    run, _ = whole
    done = sweep(run, *SIZE[:-2], "--max-tokens", "500")
    assert done.returncode == 2
    assert "sampling.max_tokens: 600 → 500" in done.stderr
    with RunStore.open(run) as store:
        assert json.dumps(store.plan["sampling"]).count("600") == 1
