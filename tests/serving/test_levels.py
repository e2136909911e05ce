"""Which λ a request means, and what the reply says of it."""

from __future__ import annotations

import math

import pytest

from mull import tiny
from mull.analysis.transition import fit_transition
from mull.serving.levels import EFFORTS, GUIDELINE, NOT_MEASURED, Levels, Undecided, efforts_of, number
from mull.serving.wire.errors import ApiError


@pytest.fixture
def levels():
    return Levels(model="org/pair", default=0.3)


@pytest.mark.parametrize(
    ("model", "lam", "effort", "expected", "source"),
    [
        ("org/pair@0.2", 0.9, "low", 0.9, "lambda"),
        ("org/pair@0.2", "auto", "low", None, "lambda"),
        ("org/pair@0.2", None, "low", 0.2, "model name"),
        ("org/pair@auto", None, "low", None, "model name"),
        ("org/pair", None, "low", 0.4, f"reasoning_effort low: {NOT_MEASURED}"),
        ("org/pair", None, None, 0.3, "default"),
        ("org/pair", 0, "max", 0.0, "lambda"),
        ("org/pair@1.", 1, None, 1.0, "lambda"),
        ("org/pair@1e-3", None, None, 0.001, "model name"),
    ],
)
def test_the_field_goes_before_the_name_the_effort_and_the_default(levels, model, lam, effort, expected, source):
    assert levels.wish(model, lam, effort) == (expected, source)


@pytest.mark.parametrize(
    ("model", "lam", "effort", "param", "status"),
    [
        ("org/pair", 1.0001, None, "lambda", 400),
        ("org/pair", -0.0001, None, "lambda", 400),
        ("org/pair", math.nan, None, "lambda", 400),
        ("org/pair", math.inf, None, "lambda", 400),
        ("org/pair", 10**400, None, "lambda", 400),
        ("org/pair", True, None, "lambda", 400),
        ("org/pair", "0.5", None, "lambda", 400),
        ("org/pair", [0.5], None, "lambda", 400),
        ("org/pair", {}, None, "lambda", 400),
        ("org/pair@", None, None, "model", 400),
        ("org/pair@ 0.5", None, None, "model", 400),
        ("org/pair@0_1", None, None, "model", 400),
        ("org/pair@1.01", None, None, "model", 400),
        ("org/pair@-0", None, None, "model", 400),
        ("org/pair@nan", None, None, "model", 400),
        ("org/pair@٠", None, None, "model", 400),
        ("org/pair@0.5@0.5", 0.4, None, "model", 400),  # wrong, though the field decides
        ("org/pair", 0.4, "huge", "reasoning_effort", 400),
        ("other", 0.4, None, "model", 404),
        ("ORG/pair", None, None, "model", 404),
        ("", None, None, "model", 404),
    ],
)
def test_what_is_no_lambda_is_refused_by_the_name_of_its_field(levels, model, lam, effort, param, status):
    with pytest.raises(ApiError) as refused:
        levels.wish(model, lam, effort)
    assert (refused.value.param, refused.value.status) == (param, status)


def test_auto_is_refused_where_nothing_chooses():
    levels = Levels(model="m", default=0.5, auto=False)
    for model, lam in (("m@auto", None), ("m", "auto")):
        with pytest.raises(ApiError, match="estimator"):
            levels.wish(model, lam, None)
    assert "m@auto" not in levels.listed()


@pytest.mark.parametrize("lam", [0.0, 1.0, 0.1 + 0.2, 1 / 3, 0.6, 1e-9, 0.123456789])
def test_a_name_is_read_as_the_lambda_it_was_made_of(levels, lam):
    assert levels.wish(levels.name(lam), None, None).lam == lam
    assert float(number(lam)) == lam


def test_efforts_of_a_measured_pair_are_its_transition():
    fit = fit_transition(list(tiny.THINK_RATIO), list(tiny.THINK_RATIO.values()))
    efforts = efforts_of(fit)
    assert list(efforts) == list(EFFORTS) and list(efforts.values()) == sorted(efforts.values())
    assert efforts["none"] == 0 and efforts["max"] == 1
    assert efforts["low"] == pytest.approx(fit.crossing_5, abs=1e-3)
    assert efforts["medium"] == pytest.approx(fit.midpoint, abs=1e-3)
    assert efforts["high"] == pytest.approx(fit.crossing_95, abs=1e-3)
    assert efforts_of(None) is None
    assert len(GUIDELINE) == len(EFFORTS)


def test_undecided_is_what_lies_between_the_sure_lambdas():
    assert Undecided.of(tiny.THINK_RATIO) == (0.3, 0.7)
    assert Undecided.of({0: 0.0, 0.2: 0.1, 0.3: 0.0, 0.5: 1.0, 0.6: 0.9, 1: 1.0}) == (0, 1)
    assert Undecided.of({0: 0.01, 1: 0.9}) == (-math.inf, math.inf)
    assert Undecided.of({}) == (-math.inf, math.inf)
    assert Undecided() == (-math.inf, 1.0)


def test_the_reply_tells_lambda_source_and_header(server, ask):
    def reply(**body):
        found = server.post("/v1/chat/completions", {"messages": ask(), "max_tokens": 3, "model": "mull", **body})
        assert found.status_code == 200, found.text
        assert found.json()["model"] == f"mull@{found.headers['x-mull-lambda']}"
        assert float(found.headers["x-mull-lambda"]) == found.json()["mull"]["lambda"]
        return found.json()["mull"]

    assert reply() == {"lambda": 0.7, "source": "default", "budget": None}
    assert reply(**{"lambda": 0.25}, model="mull@0.5", reasoning_effort="high")["lambda"] == 0.25
    assert reply(model="mull@0.5", reasoning_effort="high") == {"lambda": 0.5, "source": "model name", "budget": None}
    assert reply(reasoning_effort="medium")["source"] == f"reasoning_effort medium: {NOT_MEASURED}"
    chosen = reply(model="mull@auto")
    assert 0 <= chosen["lambda"] <= 1 and chosen["source"].startswith("auto (")
    assert chosen["cost"]["prefilled"] > 0
    assert reply(**{"lambda": "auto"}, model="mull@0.5") == chosen


def test_lambda_of_a_conversation_can_be_had_alone(server, ask):
    found = server.post("/v1/lambda", {"messages": ask()})
    assert found.status_code == 200
    said = found.json()["mull"]
    assert said["source"].startswith("auto (") and found.json()["model"] == f"mull@{number(said['lambda'])}"
    assert server.post("/v1/lambda", {"messages": []}).status_code == 400
    assert server.post("/v1/lambda", []).status_code == 400
