"""Accuracy and tokens at any λ from the records of a grid: values by hand."""

from __future__ import annotations

import numpy as np
import pytest

from mull.analysis.records import Sample
from mull.dynamic.evaluation.grid import Grid
from mull.runs.settings import Route


def sample(question, lam, index, correct, tokens):
    return Sample(
        benchmark="made",
        question=question,
        setting=f"{lam:g}" if lam is not None else "Thinking, budget 5",
        lam=lam,
        index=index,
        seed=0,
        text="",
        tokens=tokens,
        finish="stop",
        thinking="none",
        answer="",
        correct=correct,
        seconds=0.0,
    )


RECORDS = [
    *(sample("b", lam, i, lam > 0, tokens) for lam, tokens in ((0, 10), (0.5, 20), (1, 60)) for i in (0, 1)),
    *(sample("a", lam, 0, lam < 1, tokens) for lam, tokens in ((0, 10), (0.5, 30), (1, 40))),
    sample("a", 0.5, 1, False, 50),
    sample("a", None, 0, True, 5),
    sample("c", 0, 0, True, 10),
]
"""The question c has one λ alone."""


def routed(**lams):
    return Grid.of(RECORDS).routed({name: Route(*value) for name, value in lams.items()})


def test_questions_that_lack_a_lambda_and_samples_without_one_are_left_out():
    found = Grid.of(RECORDS)
    assert found.questions == ["a", "b"]
    assert found.lams.tolist() == [0, 0.5, 1]
    assert found.accuracy.tolist() == [[1, 0.5, 0], [0, 1, 1]]
    assert found.tokens.tolist() == [[10, 40, 40], [10, 20, 60]]


def test_on_the_grid_values_are_those_on_record_and_between_they_are_linear():
    found = routed(a=(0.25, ""), b=(0.5, ""))
    assert found.accuracy.tolist() == [0.75, 1]
    assert found.tokens.tolist() == [25, 20]
    ends = routed(a=(0.0, ""), b=(1.0, ""))
    assert ends.accuracy.tolist() == [1, 1]
    assert ends.tokens.tolist() == [10, 60]
    assert routed(a=(0.9, ""), b=(0.9, "")).tokens == pytest.approx([40, 52])


def test_the_choice_is_charged():
    found = routed(a=(0.0, "", 3, 40), b=(0.0, "", 5, 44))
    assert found.tokens.tolist() == [13, 15]
    assert found.prefilled.tolist() == [40, 44]


def test_a_constant_lambda_is_that_static_lambda():
    found, static = routed(a=(0.5, ""), b=(0.5, "")), Grid.of(RECORDS).static()["0.5"]
    assert np.array_equal(found.accuracy, static.accuracy)
    assert np.array_equal(found.tokens, static.tokens)


def test_keeping_some_questions():
    found = Grid.of(RECORDS).kept(["b"])
    assert (found.questions, found.accuracy.tolist()) == (["b"], [[0, 1, 1]])
