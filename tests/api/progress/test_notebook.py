"""Progress in a notebook: one output a piece of work, replaced as it goes on; nothing where it is to be quiet."""

import sys
from types import SimpleNamespace

import pytest

from mull.api.progress import notebook, observer_of
from mull.api.progress.notebook import Notebook
from mull.api.progress.terminal import Terminal
from mull.runs.sessions.observer import Observer

from .test_live import PER_SETTING, answer


@pytest.fixture
def outputs(monkeypatch):
    """What the cell shows: for each output the contents that it had."""
    shown: list[list[str]] = []

    def display(data, *, raw, display_id):
        shown.append([data["text/plain"]])
        return SimpleNamespace(update=lambda data, raw: shown[-1].append(data["text/plain"]))

    monkeypatch.setattr(notebook, "import_module", lambda name: SimpleNamespace(display=display))
    monkeypatch.setattr(notebook, "REFRESH", -1)
    return shown


def test_where_it_is_shown(monkeypatch):
    assert type(observer_of(True)) is Observer
    assert type(observer_of(False)) is Terminal
    kernel = SimpleNamespace(get_ipython=lambda: SimpleNamespace(kernel=object()))
    monkeypatch.setitem(sys.modules, "IPython", kernel)  # type: ignore[arg-type]
    assert type(observer_of(False)) is Notebook and type(observer_of(True)) is Observer


def test_a_bar_counts_and_is_gone(outputs):
    with Notebook().counting("preparing", 3) as advance:
        advance(1)
        advance(2)
    with Notebook().copying("λ = 0.5", 2_000_000) as advance:
        advance(1_000_000)
    assert outputs[0] == ["preparing: 0/3", "preparing: 1/3", "preparing: 3/3", ""]
    assert outputs[1][1] == "λ = 0.5: 1.0 MB of 2.0 MB"


def test_a_sweep_shows_its_table_and_ends_as_a_line(outputs):
    settings = [SimpleNamespace(label=label) for label in ("0", "1")]
    plan = SimpleNamespace(settings=settings, total=2 * PER_SETTING, per_setting=PER_SETTING)
    with Notebook().sweeping(plan, []) as on_sample:  # type: ignore[arg-type]
        answer(SimpleNamespace(add=on_sample, clock=SimpleNamespace(value=0.0)), "0", PER_SETTING, 10)
    (shown,) = outputs
    assert "Token #N" in shown[0] and f"{PER_SETTING}/{PER_SETTING}" in shown[-2]
    assert shown[-1].startswith(f"{PER_SETTING} responses in ")


def test_a_stopped_sweep_leaves_its_table(outputs):
    plan = SimpleNamespace(settings=[SimpleNamespace(label="0")], total=PER_SETTING, per_setting=PER_SETTING)
    with pytest.raises(KeyboardInterrupt), Notebook().sweeping(plan, []):  # type: ignore[arg-type]
        raise KeyboardInterrupt
    assert "Token #N" in outputs[0][-1]


def test_a_race_has_a_line_for_each_step(outputs):
    with Notebook().racing() as watch:
        for why in ("first", "second"):
            watch.step(SimpleNamespace(why=why, asks=[1, 2]), 2)  # type: ignore[arg-type]
            watch.sample(None)  # type: ignore[arg-type]
    assert [each[-1] for each in outputs] == ["first", "second"]


def test_foreign_text_is_escaped(monkeypatch):
    pages = []
    shown = SimpleNamespace(display=lambda data, **_: pages.append(data["text/html"]))
    monkeypatch.setattr(notebook, "import_module", lambda name: shown)
    Notebook().say("<script>\x1b[2J")
    assert "<script>" not in pages[0] and "\x1b" not in pages[0]
