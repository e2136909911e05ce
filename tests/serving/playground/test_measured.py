"""The figures and sentences that the playground shows of a sweep, on responses counted by hand."""

from __future__ import annotations

import json

from mull.analysis.records import Sample
from mull.analysis.stages import stages_of_samples
from mull.serving.playground.measured import measured


def responses(setting, right, tokens, *, lam=None, thinking="none"):
    """One response to each of ten questions, the first `right` of them right; tokens vary a little by question."""
    return [
        Sample(
            benchmark="sums",
            question=f"q{i}",
            stratum="",
            setting=setting,
            lam=lam,
            index=0,
            seed=0,
            text="",
            tokens=tokens + i % 2,
            prompt_tokens=5,
            thought_tokens=0,
            finish="stop",
            thinking=thinking,
            answer="1",
            correct=i < right,
            seconds=0.1,
            scores={},
        )
        for i in range(10)
    ]


def figures(*samples):
    flat = [sample for each in samples for sample in each]
    return measured(flat, stages_of_samples(flat), "my-run")


def test_a_lambda_is_compared_with_both_ends():
    found = figures(
        responses("0", 1, 20, lam=0.0),
        responses("0.5", 9, 50, lam=0.5, thinking="closed"),
        responses("1", 9, 100, lam=1.0, thinking="closed"),
    )
    assert found["about"] == "sums, 10 questions, run my-run"
    first, middle, last = found["points"]
    assert (middle["lambda"], middle["accuracy"][0], middle["tokens"][0], middle["think"][0]) == (0.5, 0.9, 50.5, 1)
    assert middle["words"] == (
        "λ = 0.5: 90.0 % right with 50 tokens. "
        "Against λ = 1: 50 tokens fewer (−50 %), no clear difference in accuracy. "
        "Against λ = 0: 30 tokens more (+146 %), 80.0 points more accurate."
    )
    assert first["words"].endswith("Against λ = 1: 80 tokens fewer (−80 %), 80.0 points less accurate.")
    assert last["words"].count("Against") == 1


def test_settings_without_lambda_are_left_out_and_errors_may_be_unknown():
    budget = responses("Thinking, budget 20", 5, 30)
    single = [responses(str(lam), 1, 20, lam=lam)[:1] for lam in (0.0, 1.0)]
    found = figures(*single, budget)
    assert [point["lambda"] for point in found["points"]] == [0, 1]
    assert found["points"][0]["accuracy"] == [1, None]
    assert found["about"].startswith("sums, 1 question,")
    json.dumps(found, allow_nan=False)


def test_a_run_without_lambda_has_no_curves():
    with_lambda = responses("0", 1, 20, lam=0.0)
    assert measured(responses("ties", 5, 30), stages_of_samples(with_lambda), "run") is None
