from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest

from mull.analysis.metrics import Estimate, metrics
from mull.analysis.stages import stages_of_samples
from mull.analysis.summary import plain_words

LAMS = (0.0, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0)


@pytest.fixture
def words(sample):
    """The summary of so many questions × 5 samples whose accuracy, thinking (in fifths) and tokens per λ are given."""

    def make(accuracy, thinking, tokens, paired=True, questions=20):
        rows = [
            sample(
                f"q{q}",
                lam,
                index=i,
                correct=(q + 7 * i) % 10 < 10 * accuracy[j],
                thinking="closed" if i < thinking[j] else "none",
                tokens=tokens[j] + q,
            )
            for j, lam in enumerate(LAMS)
            for q in range(questions)
            for i in range(5)
        ]
        return plain_words(metrics(rows), stages_of_samples(rows), rows if paired else None)

    return make


RISE = (0, 0, 1, 3, 5, 5, 5)


def test_over_thinking_and_a_fall_of_tokens(words):
    text = words((0.3, 0.3, 0.4, 0.6, 0.7, 0.8, 0.8), RISE, (100, 400, 600, 300, 300, 500, 900), questions=900)
    assert "Thinking emerges round λ = 0.4" in text
    assert "95 % interval" in text
    assert "At λ = 0 accuracy is 30.0 ±" in text
    assert "with 550 tokens per response; at λ = 1 accuracy is 80.0 ±" in text
    assert "The most accurate is λ = 0.8 with 80.0 ±" in text
    assert "exactly as accurate as λ = 1, for 30 % fewer tokens" in text
    assert "tokens grow from λ = 0.8 to λ = 1 (+400 tokens" in text
    assert "accuracy gains less than 2 points (+0.0 points, 95 % interval −0.4 to 0.4): over-thinking." in text
    assert "The verdict allows for the choice among 2 λ." in text
    assert "not monotone in λ: they fall from 1,050 at λ = 0.4 to 750 at λ = 0.5 (−300 tokens" in text
    assert "; the verdict allows for 21 pairs of λ)" in text
    assert "-" not in text.replace("over-thinking", "")


def test_a_significant_winner_and_rising_tokens(words):
    text = words((0.3, 0.3, 0.4, 0.6, 0.7, 0.9, 0.6), RISE, (100, 200, 300, 400, 500, 600, 700))
    assert "significantly more accurate than λ = 1 (+30.0 points" in text
    assert "accuracy falls (−30.0 points" in text
    assert "): over-thinking." in text
    assert "Tokens never fall as λ grows." in text


def test_one_pair_has_one_interval(words):
    """The sentence on the best λ and the one on stage 3 speak of the same pair."""
    text = words((0.3, 0.3, 0.4, 0.6, 0.7, 0.9, 0.7), RISE, (100, 200, 300, 400, 500, 600, 700))
    (better,), (worse,) = (
        re.findall(rf"\({sign}20.0 points, 95 % interval (\S+) to (\S+)\)", text) for sign in ("\\+", "−")
    )
    assert [worse[1], worse[0]] == [f"−{limit}" for limit in better]


def test_tokens_that_still_buy_accuracy(words):
    text = words((0.3, 0.3, 0.4, 0.6, 0.7, 0.8, 0.9), RISE, (100, 200, 300, 400, 500, 600, 700))
    assert "No other λ is more accurate than λ = 1." in text
    assert "from λ = 0.6 to λ = 1" in text
    assert "still buy accuracy (+20.0 points" in text
    assert "over-thinking" not in text


def test_no_growth_of_tokens_is_no_over_thinking(words):
    text = words((0.3, 0.3, 0.4, 0.6, 0.7, 0.8, 0.8), RISE, (100, 200, 300, 400, 700, 500, 500))
    assert "In stage 3 tokens do not clearly grow from λ = 0.8 to λ = 1 (+0 tokens" in text
    assert "no over-thinking" in text


def test_a_gain_that_is_not_resolved_is_no_over_thinking(words):
    # Every question is as right at λ = 0.8 as at λ = 1, but 20 questions leave room for a gain.
    text = words((0.3, 0.3, 0.4, 0.6, 0.7, 0.8, 0.8), RISE, (100, 200, 300, 400, 450, 500, 900))
    assert "no gain in accuracy is resolved (+0.0 points, 95 % interval −16.8 to 16.8)" in text
    assert "whether this is over-thinking stays open." in text
    assert ": over-thinking" not in text


@pytest.mark.parametrize(
    ("share", "ends", "verdict"),
    [
        (
            1,
            "100 % (no error in 100 responses)",
            "there is no accuracy left to gain: over-thinking on these questions.",
        ),
        (0, "0 % (no right answer in 100 responses)", "over-thinking cannot be judged."),
    ],
)
def test_no_error_at_all_is_not_given_as_certainty(words, share, ends, verdict):
    text = words((0.3, 0.3, 0.4, 0.6, share, share, share), RISE, (100, 200, 300, 400, 450, 500, 900))
    assert f"at λ = 1 accuracy is {ends} with 910 tokens" in text
    assert verdict in text
    assert "± 0.0" not in text


def test_questions_that_all_turn_out_alike_are_no_proof(sample):
    # All of 3 questions won: by the sign test p = 0.25.
    rows = [sample(f"q{q}", lam, correct=lam == 0.5) for lam in (0.0, 0.5, 1.0) for q in range(3)]
    for given in (rows, None):
        text = plain_words(metrics(rows), stages_of_samples(rows), given)
        assert "a tie with λ = 1 (+100.0 points, 95 % interval −41.5 to 100.0)" in text


def test_verdicts_allow_for_the_choice(sample):
    """Where all saturated λ are equally good and all tokens equal, chance alone is rarely taken for an effect."""
    rng = np.random.default_rng(3)
    lams, questions, runs = (0.0, 0.2, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0), 6, 1500
    noise = 0.02
    rows = [sample(f"q{q}", lam, thinking="closed" if lam > 0.4 else "none") for lam in lams for q in range(questions)]
    stages, plain = stages_of_samples(rows), metrics(rows)
    falls = courses = 0
    for _ in range(runs):
        drawn = [
            dataclasses.replace(
                m,
                mean_at_k=Estimate(0.7 + noise * rng.standard_normal(), noise),
                tokens=Estimate(100 * m.lam + rng.standard_normal(), 1.0),
            )
            for m in plain
        ]
        level = [dataclasses.replace(m, tokens=Estimate(100 + rng.standard_normal(), 1.0)) for m in plain]
        falls += "accuracy falls" in plain_words(drawn, stages)
        courses += "not monotone" in plain_words(level, stages)
    assert falls / runs < 0.035
    assert courses / runs < 0.035


def test_a_tie_is_called_a_tie(sample):
    # λ = 0.5 is right on 6 questions of 10, λ = 1 on 5: 5 won, 4 lost.
    right = {0.0: (), 0.5: range(6), 1.0: range(5, 10)}
    rows = [sample(f"q{q}", lam, correct=q in hits) for lam, hits in right.items() for q in range(10)]
    text = plain_words(metrics(rows), stages_of_samples(rows), rows)
    assert "The most accurate is λ = 0.5" in text
    assert "a tie with λ = 1 (+10.0 points, 95 % interval −" in text


def test_a_lead_within_the_luck_of_the_choice_is_not_significant(sample):
    # 7 questions of 20 won and 1 lost: t = 2.35 with 19 degrees, p = 0.03, but the best of 5 λ.
    right = {0.0: 8, 0.25: 8, 0.5: 8, 0.75: 14, 1.0: 8}
    rows = [
        sample(f"q{q}", lam, correct=q < hits if lam < 1 else 1 <= q < 8 or q == 19)
        for lam, hits in right.items()
        for q in range(20)
    ]
    text = plain_words(metrics(rows), stages_of_samples(rows), rows)
    assert "but not significantly so once it is counted that it is the best of 5" in text


def cut(rows, *lams):
    return [
        dataclasses.replace(row, finish="length") if row.lam in lams and int(row.question[1:]) % 20 == 0 else row
        for row in rows
    ]


def test_a_limit_that_cuts_responses_off_is_said_first(sample):
    """5 % of the responses at λ = 1 are cut off: it is no evidence of over-thinking."""
    right = {0.0: 0.3, 0.5: 0.6, 0.6: 0.8, 0.8: 0.8, 1.0: 0.5}
    rows = [
        sample(
            f"q{q}",
            lam,
            correct=q % 10 < 10 * share,
            thinking="closed" if lam > 0.5 else "none",
            tokens=int(900 * lam) + q,
        )
        for lam, share in right.items()
        for q in range(400)
    ]
    plain = plain_words(metrics(rows), stages_of_samples(rows), rows)
    assert "accuracy falls" in plain and "cut off" not in plain
    rows = cut(rows, 1.0)
    text = plain_words(metrics(rows), stages_of_samples(rows), rows)
    assert text.startswith("Responses were cut off at the token limit: 5 % at λ = 1; ")
    assert "In stage 3 tokens grow from λ = 0.6 to λ = 0.8" in text and "accuracy falls" not in text
    rows = cut(rows, 0.6, 0.8, 1.0)
    text = plain_words(metrics(rows), stages_of_samples(rows), rows)
    assert "Over-thinking cannot be judged: too many responses beyond the transition were cut off." in text


def test_nothing_right_is_no_winner(sample):
    rows = [sample(f"q{q}", lam, correct=False) for lam in (0.0, 0.5, 1.0) for q in range(6)]
    text = plain_words(metrics(rows), stages_of_samples(rows), rows)
    assert "No response is right at any λ" in text and "most accurate is" not in text


def test_no_transition(words):
    text = words((0.3,) * 7, (0,) * 7, (100,) * 7)
    assert text.startswith("No transition from direct answers to thinking was found: Think #R never reaches 99 %")
    assert "stage 3" not in text


def test_too_little_to_say(sample):
    rows = [sample("q1", 0.5), sample("q1", None)]
    stages = stages_of_samples(rows)
    text = plain_words(metrics(rows), stages, rows)
    assert text.endswith("At λ = 0.5 accuracy is 100 % (no error in 1 response) with 10 tokens per response.")
    assert plain_words([], stages) == "No setting with a λ was measured."
    sharp = [sample("q1", lam, thinking="closed" if lam > 0.5 else "none") for lam in LAMS]
    found = stages_of_samples(sharp)
    assert plain_words(metrics(sharp), found).startswith("Thinking emerges between λ = 0.5 and 0.6; the grid is too")
    by_rule = dataclasses.replace(found, fit=None)
    assert "by the grid rule" in plain_words(metrics(sharp), by_rule)
