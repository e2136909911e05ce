"""A target of time is held: a simulated server with a clock of its own, which decodes rows as a real one does."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np
import pytest

from mull import tiny
from mull.serving.load.control import LoadControl, LoadPolicy

ASKED = 0.9
"""λ(q) of every question."""
ROWS = 32
"""Responses that are decoded at a time; others wait."""
TARGET = 4.0
QUIET, BUSY = 0.4, 9.0
"""Requests a second. At λ(q) the server can do six."""


@dataclass
class Response:
    came: float
    lam: float
    load: int
    left: int
    tokens: int
    last: float
    first: bool = True


def true_tokens(lam):
    return np.interp(lam, list(tiny.TOKENS), list(tiny.TOKENS.values()))


def simulated(control, phases, seed=0):
    """(when it came, λ, seconds) of each response. `phases`: requests a second, and for how many seconds."""
    random = np.random.default_rng(seed)
    arrivals, begin = [], 0.0
    for rate, seconds in phases:
        arrivals += (begin + np.sort(random.uniform(0, seconds, round(rate * seconds)))).tolist()
        begin += seconds
    coming, waiting, rows, done, clock = deque(arrivals), deque(), [], [], 0.0
    while coming or waiting or rows:
        if not waiting and not rows:
            clock = max(clock, coming[0])
        while coming and coming[0] <= clock:
            load = len(waiting) + len(rows) + 1
            found = control.lowered(ASKED, load)
            lam = ASKED if found is None else found.lam
            tokens = max(1, round(true_tokens(lam) * random.gamma(4, 0.25)))
            waiting.append(Response(coming.popleft(), lam, load, tokens, tokens, clock))
        while waiting and len(rows) < ROWS:
            rows.append(waiting.popleft())
        clock += 0.01 + 0.0005 * len(rows)  # a step costs something, and something for each row
        load = len(waiting) + len(rows)
        for row in rows:
            if row.first:
                control.first_token.add(row.load, clock - row.last)
            else:
                control.between_tokens.add(load, clock - row.last)
            row.first, row.last, row.left = False, clock, row.left - 1
            if row.left == 0:
                control.tokens.add(row.lam, row.tokens)
                done.append((row.came, row.lam, clock - row.came))
        rows = [row for row in rows if row.left]
    return np.array(sorted(done))


def between(found, begin, end):
    return found[(found[:, 0] >= begin) & (found[:, 0] < end)]


PHASES = [(QUIET, 80), (BUSY, 120), (QUIET, 80)]


def times(factor):
    return {lam: factor * tokens for lam, tokens in tiny.TOKENS.items()}


@pytest.mark.parametrize("known", [times(1), times(1 / 3), times(3), None], ids=["right", "low", "high", "learned"])
def test_responses_take_the_target_on_average_under_load_and_get_their_lambda_when_it_is_gone(known):
    """Whether the tokens at each λ are known, known wrongly, or learned from nothing."""
    found = simulated(LoadControl(LoadPolicy(target=TARGET), low=0.2, tokens=known), PHASES)
    busy, after = between(found, 120, 200), between(found, 230, 280)
    assert 0.85 * TARGET < busy[:, 2].mean() < 1.15 * TARGET
    assert 0.6 < busy[:, 1].mean() < 0.8
    assert len(after) > 10 and (after[:, 1] == ASKED).all()


def test_without_a_target_they_take_many_times_that():
    found = simulated(LoadControl(), PHASES)
    assert (found[:, 1] == ASKED).all() and between(found, 120, 200)[:, 2].mean() > 4 * TARGET


def test_a_queue_keeps_its_length_between_the_two_that_were_given():
    found = simulated(LoadControl(LoadPolicy(queue_from=10, queue_full=60), low=0.2), PHASES)
    busy, after = between(found, 120, 200), between(found, 230, 280)
    under_way = busy[:, 2].mean() * BUSY  # Little's law
    assert 10 < under_way < 60 and 0.2 < busy[:, 1].min() < busy[:, 1].max() < ASKED
    assert (after[:, 1] == ASKED).all()
