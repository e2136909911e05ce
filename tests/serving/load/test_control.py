"""What becomes of a λ under load: by the queue, by a target of time, and which policies are refused."""

from __future__ import annotations

import pytest

from mull import tiny
from mull.errors import MullError
from mull.serving.load.control import LoadControl, LoadPolicy

QUEUE = LoadPolicy(queue_from=4, queue_full=12)


def paced(control, *, load, first, between):
    """`control`, which has seen these seconds to the first token and between tokens at a load."""
    control.first_token.add(load, first)
    control.between_tokens.add(load, between)
    return control


@pytest.mark.parametrize(
    ("lam", "load", "expected"),
    [(0.8, 1, None), (0.8, 4, None), (0.8, 8, 0.5), (0.8, 12, 0.2), (0.8, 99, 0.2), (0.2, 99, None), (0.1, 99, None)],
)
def test_by_the_queue_a_lambda_falls_linearly_and_is_never_raised(lam, load, expected):
    found = LoadControl(QUEUE, low=0.2).lowered(lam, load)
    assert (found and found.lam) == expected
    if found:
        assert found.why == f"lowered from {lam} to {expected}: {load} responses under way"
        assert found.reason == "queue"


def test_without_a_policy_nothing_is_lowered():
    control = paced(LoadControl(tokens=tiny.TOKENS), load=1, first=1000, between=1000)
    assert control.lowered(1.0, 1 << 20) is None and control.unasked(1 << 20) is None


def test_of_larger_and_smaller_lambda_under_load_the_one_with_fewer_tokens_is_taken():
    """Tokens by λ as those of Qwen3-4B on IFEval (published): a λ of 0.4 would lengthen the queue."""
    tokens = {0.0: 1174, 0.2: 4933, 0.4: 6492, 0.5: 2932, 0.6: 1445, 0.8: 1556, 1.0: 2091}
    assert LoadControl(QUEUE, low=0.4, tokens=tokens).lowered(0.8, 12).lam == 0.6
    held = paced(LoadControl(LoadPolicy(target=5), low=0.4, tokens=tokens), load=8, first=0, between=0.01)
    assert held.lowered(1.0, 8).lam == 0.6


def test_by_the_target_it_is_the_largest_lambda_whose_response_is_in_time():
    control = LoadControl(LoadPolicy(target=10), low=0.2, tokens={0.0: 0, 1.0: 1000})
    assert control.lowered(0.9, 8) is None  # nothing is known of the pace
    paced(control, load=8, first=2.0, between=0.01)
    found = control.lowered(0.9, 8)
    assert found.lam == 0.8 and found.reason == "target"
    assert found.why == (
        "lowered from 0.9 to 0.8: 8 responses under way, expected 11 s at 0.9 and 10 s at 0.8, target 10 s"
    )
    assert control.lowered(0.9, 8, spent=3.0).lam == 0.5
    assert control.lowered(0.75, 8) is None
    assert control.lowered(0.9, 8, most=700) is None  # the request's own limit ends it in time
    assert control.lowered(0.9, 8, spent=9.0).lam == 0.2  # too late in any case: as early as may be


def test_a_load_goes_by_the_pace_of_similar_ones():
    control = LoadControl(LoadPolicy(target=10), low=0.2, tokens={0.0: 1000})
    paced(control, load=1, first=0, between=0.001)
    paced(control, load=20, first=0, between=0.02)
    seconds = {load: control.seconds(0.5, load) for load in (1, 2, 16, 31, 500)}
    assert seconds == pytest.approx({1: 1, 2: 1, 16: 20, 31: 20, 500: 20})


def test_queue_and_target_together_take_the_smaller_lambda():
    policy = LoadPolicy(target=10, queue_from=4, queue_full=12)
    control = paced(LoadControl(policy, low=0.2, tokens={0.0: 0, 1.0: 1000}), load=8, first=2.0, between=0.01)
    assert control.lowered(0.8, 8)[:2] == (0.5, "queue")
    assert control.lowered(0.8, 8, spent=5.0)[:2] == (0.3, "target")


@pytest.mark.parametrize("lowest", [None, 0.1, 0.123456])
def test_where_every_question_gets_the_lowest_lambda_none_is_asked(lowest):
    control = LoadControl(LoadPolicy(queue_from=4, queue_full=12, lowest=lowest), low=0.2)
    assert control.unasked(11) is None
    found = control.unasked(12)
    assert found.lam == control.lowest and "12 responses under way" in found.why


def test_a_question_is_asked_where_it_may_want_less_than_the_lowest_lambda():
    """A question that needs no thought must not get one because others wait."""
    assert LoadControl(LoadPolicy(queue_from=4, queue_full=12, lowest=0.5), low=0.2).unasked(12) is None


def test_where_the_target_cannot_be_held_none_is_asked_either():
    control = paced(LoadControl(LoadPolicy(target=1), low=0.2, tokens=tiny.TOKENS), load=8, first=2.0, between=0.01)
    assert control.unasked(8).lam == 0.2
    assert control.unasked(8).reason == "target"


def test_the_policy_is_told_in_words():
    policy = LoadPolicy(queue_from=4, target=20).within(64, 600)
    assert LoadControl(policy, low=0.4, tokens={0.5: 3}).words() == (
        "the λ of auto falls between 4 and 64 responses under way, and where a response is expected to take over 20 s "
        "(tokens by λ measured before); not below 0.4"
    )
    assert "learned" in LoadControl(LoadPolicy(target=20)).words()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"queue_full": 8}, "--queue-from, too"),
        ({"queue_from": 0}, "must be 1 or more, got 0"),
        ({"queue_from": 8, "queue_full": 8}, "must be above --queue-from, got 8 and 8"),
        ({"queue_from": 64}, "with --queue-from 64 λ would never be lowest: --waiting takes 64"),
        ({"queue_from": 3, "queue_full": 65}, "with --queue-full 65 λ would never"),
        ({"target": 0}, "--target-latency must be a positive"),
        ({"target": -1}, "--target-latency must be a positive"),
        ({"target": float("nan")}, "--target-latency must be a positive"),
        ({"target": float("inf")}, "--target-latency must be a positive"),
        ({"target": 61}, "--target-latency 61 is above --timeout 60"),
        ({"queue_from": 3, "lowest": 1.1}, "--lowest-lambda 1.1 is no λ"),
        ({"queue_from": 3, "lowest": float("nan")}, "is no λ"),
        ({"lowest": 0.5}, "--queue-from or --target-latency, too"),
    ],
)
def test_a_policy_that_cannot_be_followed_is_refused(wrong, message):
    with pytest.raises(MullError) as refused:
        LoadPolicy(**wrong).within(64, 60)
    assert message in str(refused.value)
