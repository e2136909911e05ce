"""Sweeps with a λ per row: one engine for all λ, the texts of the exact mixture, an arithmetic of its own in plans."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from mull.analysis.choosing.options import Goal
from mull.benchmarks import load_benchmark
from mull.checkpoints.pair import Pair
from mull.engines.base import Request, Sampling
from mull.engines.local.engine import LocalEngine
from mull.errors import MullError
from mull.merging.coefficients import Coefficients
from mull.merging.coefficients.recipe import Recipe
from mull.merging.methods.slerp import Slerp
from mull.runs.plan import SweepPlan
from mull.runs.sessions import session
from mull.runs.sessions.loading import LocalLoader
from mull.runs.settings import Setting
from mull.runs.store import RunStore
from mull.tiny import checkpoint_folder

from ..running import mull

LAMS = (0.0, 0.3, 0.55, 1.0)
ENDS = [checkpoint_folder("instruct"), checkpoint_folder("thinking")]
UNROUNDED = LocalLoader(device="cpu", unrounded=True)


def plan_of(questions=5, k=1, temperature=0.0, lams=LAMS):
    settings = [Setting.of(Coefficients.scalar(lam)) for lam in lams]
    pair = Pair.open(*map(str, ENDS))
    sampling = Sampling(temperature=temperature, max_tokens=48)
    return SweepPlan(pair, settings, load_benchmark("tiny", questions=questions), k, sampling)


def texts(run: Path):
    with RunStore.open(run) as store:
        return {(s.setting, s.question, s.index): s.text for s in store.samples()}


@pytest.fixture(scope="module")
def engine():
    return LocalEngine(*ENDS, device="cpu", by_row=True)


def test_the_texts_are_those_of_the_engine_and_of_the_float32_mixture(tmp_path, engine):
    plan = plan_of()
    session.sweep(plan, tmp_path / "run", UNROUNDED)
    found = texts(tmp_path / "run")
    assert len(found) == len(LAMS) * 5
    prompts = {q.id: engine.render(plan.benchmark.prompt(q)) for q in plan.benchmark.questions()}
    ends = [AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32) for folder in ENDS]
    for lam in LAMS:
        mixture = AutoModelForCausalLM.from_pretrained(ENDS[1], dtype=torch.float32)
        with torch.no_grad():
            for live, a, b in zip(mixture.parameters(), *(end.parameters() for end in ends), strict=True):
                live.copy_((1 - lam) * a.double() + lam * b.double())
        for key, prompt in prompts.items():
            request = Request(id=key, prompt_ids=prompt, seed=0, sampling=plan.sampling, lam=lam)
            (alone,) = engine.generate([request])
            stops = sorted(engine.prompts.stop_ids)
            ids = mixture.generate(
                torch.tensor([prompt]), do_sample=False, max_new_tokens=48, eos_token_id=stops, pad_token_id=stops[0]
            )
            assert found[f"{lam:g}", key, 0] == alone.text
            assert alone.token_ids == tuple(ids[0, len(prompt) :].tolist())


def test_one_engine_answers_all_lambdas_in_shared_batches(tmp_path, monkeypatch):
    asked = []
    generate = LocalEngine.generate
    monkeypatch.setattr(LocalEngine, "generate", lambda self, requests: generate(self, note(requests)))

    def note(requests):
        asked.append(list(requests))
        return asked[-1]

    session.sweep(plan_of(), tmp_path / "run", UNROUNDED)
    assert [{request.lam for request in call} for call in asked] == [set(LAMS)]


def test_a_resumed_run_holds_what_an_unbroken_one_does(tmp_path):
    plan = plan_of(k=2, temperature=0.8)
    session.sweep(plan, tmp_path / "whole", UNROUNDED)
    session.sweep(replace(plan, settings=plan.settings[1:2], k=1), tmp_path / "grown", UNROUNDED)
    session.sweep(plan, tmp_path / "grown", UNROUNDED)
    assert texts(tmp_path / "grown") == texts(tmp_path / "whole")


def test_a_run_never_mixes_both_arithmetics(tmp_path):
    plan = plan_of(lams=(0.3,))
    for first, second in ((UNROUNDED, LocalLoader(device="cpu")), (LocalLoader(device="cpu"), UNROUNDED)):
        run = tmp_path / f"{first.unrounded}"
        session.sweep(plan, run, first)
        with RunStore.open(run) as store:
            assert store.plan["engine"] == ("local/unrounded/float32/cpu" if first.unrounded else "local/float32/cpu")
        with pytest.raises(MullError, match=r"engine: local/.*float32/cpu → local/.*float32/cpu"):
            session.sweep(replace(plan, k=2), run, second)


def test_a_race_samples_several_lambdas_at_once(tmp_path):
    plan = plan_of(questions=21, k=2, lams=(0.0, 0.5, 1.0), temperature=0.6)
    outcome = session.race(plan, tmp_path / "raced", Goal(budget=40), UNROUNDED)
    raced = texts(tmp_path / "raced")
    session.sweep(plan, tmp_path / "swept", UNROUNDED)
    swept = texts(tmp_path / "swept")
    assert outcome and raced and raced.items() <= swept.items()


def test_settings_that_are_no_single_lambda_are_refused_by_name(tmp_path):
    settings = [
        Setting.of(Coefficients.only(0.5, layers=(1, 2))),
        Setting.of(Recipe(Coefficients.scalar(0.5), Slerp()), "slerp"),
    ]
    for setting in settings:
        plan = replace(plan_of(), settings=[setting])
        with pytest.raises(MullError) as refused:
            session.sweep(plan, tmp_path / "run", UNROUNDED)
        assert repr(setting.label) in str(refused.value)
    options = [f"--instruct={ENDS[0]}", f"--thinking={ENDS[1]}", "--arithmetic", "unrounded"]
    done = mull("sweep", *options, "--run", tmp_path / "run", "--layers", "1-2", "--dry-run")
    assert done.returncode == 2 and "is more than that" in done.stderr
    assert not (tmp_path / "run").exists()
