"""The live table: what is provisional is marked, and the time left counts in tokens and says what it is."""

import io
from types import SimpleNamespace

import pytest
from rich.console import Console

from mull.analysis.records import Sample
from mull.api.progress import live
from mull.api.progress.live import EARLY, LiveSweep

PER_SETTING = 40


@pytest.fixture
def sweep(monkeypatch):
    """Three λ of 40 responses each; `clock` stands in for the time."""
    now = SimpleNamespace(value=0.0)
    monkeypatch.setattr(live.time, "perf_counter", lambda: now.value)
    settings = [SimpleNamespace(label=label) for label in ("0", "0.5", "[1]")]
    made = LiveSweep(SimpleNamespace(settings=settings, total=3 * PER_SETTING, per_setting=PER_SETTING))  # type: ignore
    made.started, made.clock = 0.0, now  # type: ignore[attr-defined]
    return made


def answer(sweep, label, count, tokens, seconds=0.0):
    for i in range(count):
        sweep.clock.value += seconds
        sweep.add(
            Sample(
                benchmark="b", question=f"q{i}", setting=label, lam=None, index=0, seed=0, text="", tokens=tokens,
                finish="stop", thinking="none", answer="", correct=True, seconds=0.0,
            )
        )  # fmt: skip


def shown(sweep):
    console = Console(file=io.StringIO(), width=100, force_terminal=True, color_system="truecolor")
    console.print(sweep.table())
    return console.file.getvalue().splitlines()


def test_means_of_an_unfinished_setting_are_marked_and_explained(sweep):
    answer(sweep, "0", PER_SETTING, 10, 0.1)
    assert not any("unfinished" in line for line in shown(sweep))
    answer(sweep, "0.5", 3, 10, 0.1)
    lines = shown(sweep)
    dim = "\x1b[2m"
    whole, begun, waiting = (next(line for line in lines if mark in line) for mark in ("40/40", "3/40", "[1]"))
    assert dim not in whole and "*" not in whole
    assert dim in begun and "0.5*" in begun and "100.0%" in begun
    assert dim in waiting and "*" not in waiting
    assert any("* unfinished λ: short answers come first" in line for line in lines)
    answer(sweep, "0.5", 37, 10, 0.1)
    assert not any("unfinished" in line for line in shown(sweep))


def test_time_left_counts_tokens_of_the_last_finished_setting(sweep):
    assert sweep.seconds_left is None and sweep.eta == ""
    answer(sweep, "0", PER_SETTING, 10, 0.1)  # 400 tokens in 4 s
    assert sweep.eta == "ETA ≥ 0:08", "the other two cost as much, at least"
    answer(sweep, "0.5", PER_SETTING, 110, 1.1)  # ten times the tokens, at the same speed
    assert sweep.seconds_left == pytest.approx(44), "not the mean of both, which would be 24"
    assert sweep.eta.startswith("ETA ≥")


def test_short_answers_that_come_first_do_not_shorten_the_time_left(sweep):
    answer(sweep, "0", PER_SETTING, 100, 1)
    answer(sweep, "0.5", 20, 10, 0.1)
    assert sweep.seconds_left == pytest.approx((20 + PER_SETTING) * 100 * 0.01)
    answer(sweep, "0.5", 20, 400, 4)
    answer(sweep, "[1]", 20, 500, 5)
    assert sweep.seconds_left == pytest.approx(20 * 500 * 0.01)
    assert sweep.eta == "ETA about 1:40"


def test_no_time_is_guessed_from_the_first_few_responses(sweep):
    answer(sweep, "0", EARLY - 1, 10, 1)
    assert sweep.eta == "" and "ETA" not in sweep.line("0")
    answer(sweep, "0", 1, 10, 1)
    assert sweep.eta.startswith("ETA ≥")


def test_no_time_is_left_at_the_end(sweep):
    for label in ("0", "0.5", "[1]"):
        answer(sweep, label, PER_SETTING, 10, 0.1)
    assert sweep.line("[1]").endswith("; 120/120") and "?" not in "".join(shown(sweep))
    assert "ETA" not in "".join(shown(sweep)) and "120/120 responses   0:12" in shown(sweep)[0]
