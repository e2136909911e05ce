"""Where a forced answer ends, and the entropy of a distribution of which the likeliest outcomes are known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mull.benchmarks import BOXED_ANSWER, FREE_ANSWER, LETTER_ANSWER, AnswerForm
from mull.dynamic.probing.forcing import answer_end, entropy, forcing_text, most_tokens
from mull.thinking import ThinkTags

BOXED = AnswerForm("boxed", "\\boxed{")
LETTER, FREE = LETTER_ANSWER, FREE_ANSWER


@pytest.mark.parametrize(
    ("form", "text", "answer"),
    [
        (BOXED, "7}. Done", "7}"),
        (BOXED, "}", "}"),
        (BOXED, "\\frac{1}{2}}$ and \\boxed{3}", "\\frac{1}{2}}"),
        (BOXED, "{{a}{b}}}}", "{{a}{b}}}"),
        (BOXED, "\\frac{1}{2", None),
        (BOXED, "", None),
        (LETTER, "B) because", "B"),
        (LETTER, " (C)", " (C"),
        (LETTER, " **", None),
        (FREE, "The answer", "The answer"),
        (FREE, "", None),
    ],
)
def test_where_an_answer_ends(form, text, answer):
    end = answer_end(form, text)
    assert (None if end is None else text[:end]) == answer


def test_the_forcing_text_closes_an_open_thought_first():
    assert forcing_text(BOXED, None) == "\\boxed{"
    assert forcing_text(BOXED, ThinkTags("<t>", "</t>")) == "\n</t>\n\n\\boxed{"
    assert (most_tokens(BOXED), most_tokens(LETTER), most_tokens(FREE)) == (20, 20, 1)
    assert BOXED_ANSWER.opening.endswith("{") and forcing_text(FREE, None) == FREE.opening


def test_entropy_with_the_rest_as_one_outcome():
    rng = np.random.default_rng(0)
    for size in (2, 5, 30):
        p = np.sort(rng.dirichlet(np.ones(size)))[::-1]
        known = p[:3]
        outcomes = [*known, 1 - known.sum()] if size > 3 else list(known)
        expected = -sum(each * math.log(each) for each in outcomes)
        assert entropy(np.log(known).tolist()) == pytest.approx(expected, abs=1e-9)
    assert entropy([0.0, -math.inf]) == 0
    assert entropy([math.log(0.5)] * 2) == pytest.approx(math.log(2))
    # Probabilities in float32 may add up to a little more than 1.
    assert entropy(np.log(np.array([0.6, 0.4]) * (1 + 1e-7)).tolist()) == pytest.approx(0.6730, abs=1e-4)
