"""The worked examples of CONTRIBUTING.md run as they stand, one after the other."""

import re
from pathlib import Path

import pytest
import torch

from mull.benchmarks.base import Question
from mull.merging.methods import METHODS, make

PAGE = Path(__file__).parent.parent / "CONTRIBUTING.md"


@pytest.fixture
def names(tmp_path, monkeypatch):
    """What the examples leave behind."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(METHODS, "median", None)  # taken out again afterwards
    found: dict = {"__name__": "examples"}
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL):
        exec(compile(block, str(PAGE), "exec"), found)
    return found


def test_the_examples_run(names):
    models = [torch.tensor([1.0, 5.0]), torch.tensor([2.0, -3.0]), torch.tensor([9.0, 4.0])]
    assert make("median").combine(models).tolist() == [2.0, 4.0]
    question = names["read"]({"question": "is it", "answer": True}, 0)
    assert question == Question(id="0", text="is it", gold="yes")
    grader = names["YesNoGrader"]()
    assert grader.grade(question, "No. Or rather yes.")[:2] == ("yes", True)
    assert grader.grade(question, "who knows")[:2] == ("", False)
    assert names["BOOLQ"].grader == grader.name
    assert len(names["samples"]) == 3 * 40 * 2
    assert {sample.answer for sample in names["samples"] if sample.lam == 0.5} == {"50"}
