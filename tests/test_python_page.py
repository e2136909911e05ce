"""docs/python.md: its examples run as they stand, and its links lead somewhere."""

import contextlib
import io
import re
from pathlib import Path

import pytest

import mull

DOCS = Path(__file__).parent.parent / "docs"
PAGE = (DOCS / "python.md").read_text()


@pytest.fixture(scope="module")
def names(tmp_path_factory):
    """What the examples leave behind."""
    found: dict = {"__name__": "examples"}
    with contextlib.chdir(tmp_path_factory.mktemp("python")), contextlib.redirect_stdout(io.StringIO()) as said:
        for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
            exec(compile(block, "docs/python.md", "exec"), found)
        found["said"], found["made"] = said.getvalue(), {path.name for path in Path().iterdir()}
    yield found
    found["model"].close()


def test_the_examples_run(names):
    assert {
        "merged",
        "merged-0.4",
        "merged-0.6",
        "varied",
        "ties",
        "run",
        "page",
        "ablation",
        "raced",
        "measured",
    } <= names["made"]
    assert names["page"].name == "report.html"
    assert names["run"].metrics["lambda"].to_list() == [0, 0.4, 0.6, 0.8, 1]
    assert names["ablation"].metrics["setting"].to_list() == list(names["settings"])
    assert names["budgets"].metrics["setting"].to_list() == ["0.5", "1", "Thinking, budget 60"]
    assert names["choice"].lam in (0, 0.4, 0.6, 0.8, 1) and isinstance(names["raced"], mull.Choice)
    assert [reply.tokens > 0 for reply in names["replies"]] == [True, True]
    assert names["stream"].reply.answer.strip() in names["said"]


def test_what_it_names_is_there():
    named = set(re.findall(r"\bmull\.(?:[A-Za-z_.]+)", PAGE))
    for name in named:
        found = mull
        for part in name.removeprefix("mull.").rstrip(".").split("."):
            if not hasattr(found, part):
                __import__(f"{found.__name__}.{part}")
            found = getattr(found, part)
    for link in re.findall(r"\]\((?!http)([^)#]+)", PAGE):
        assert (DOCS / link).is_file(), link
