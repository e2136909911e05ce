"""What of runs becomes training data."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from types import SimpleNamespace

import numpy as np
import pytest

from mull.analysis.records import Sample
from mull.benchmarks import load_benchmark
from mull.benchmarks.base import Question
from mull.dynamic.training.records import HELD_OUT, read_runs, text_hash
from mull.engines.base import Sampling
from mull.errors import MullError
from mull.runs.store import RunStore
from mull.tiny.problems import STRATA

LAMS = (0.0, 0.5, 1.0)
PAIR = {"instruct": "a" * 16, "thinking": "b" * 16, "donor": "thinking"}


def write_run(
    folder, questions=45, *, lams=LAMS, first=0, k=2, name="mine", skip=(), sources=PAIR, thought=True, stratum="s"
):
    """A run with questions `first`, `first` + 1 …; `skip`: (question, λ) that were not sampled yet."""
    asked = [Question(id=str(i), text=f"What is {first + i}?", gold="1", stratum=stratum) for i in range(questions)]
    benchmark = SimpleNamespace(questions=lambda: asked)
    record = {
        "study": "sweep",
        "settings": {f"{lam:g}": {} for lam in lams},
        "benchmark": {"name": name, "prompt": "Solve: {question}", "grader": {"name": "integer"}},
        "k": k,
        "questions": "0" * 16,
        "sampling": {"max_tokens": 64},
        "engine": "local",
        **sources,
    }
    plan = SimpleNamespace(record=record, benchmark=benchmark, sampling=Sampling(max_tokens=64))
    with RunStore.record(folder, plan, {}) as store:
        for question in asked:
            for lam in lams:
                for index in range(k):
                    if (question.id, lam) in skip:
                        continue
                    number = first + int(question.id)
                    store.add(
                        Sample(
                            benchmark=name,
                            question=question.id,
                            stratum=stratum,
                            setting=f"{lam:g}",
                            lam=lam,
                            index=index,
                            seed=0,
                            text="",
                            tokens=10 + number + index + round(20 * lam),
                            thought_tokens=number if thought else None,
                            finish="stop",
                            thinking="none",
                            answer="",
                            correct=(number + index) % 3 == 0,
                            seconds=0.1,
                        )
                    )
    return folder


def test_means_by_question_and_lambda(tmp_path):
    found = read_runs([write_run(tmp_path / "run", k=4)])
    assert found.lams.tolist() == list(LAMS) and found.accuracy.shape == (45, 3) and found.samples == 4
    assert found.pair == {"instruct": "a" * 16, "thinking": "b" * 16}
    for row, text in enumerate(found.texts):
        number = int(text[8:-1])
        assert found.accuracy[row, 1] == np.mean([(number + i) % 3 == 0 for i in range(4)])
        assert found.tokens[row, 0] == 10 + number + 1.5 and found.thought_tokens[row, 2] == number
        assert found.messages[row] == [{"role": "user", "content": f"Solve: What is {number}?"}]
        assert found.names[row] == f"mine/{number}" and found.forms[row].type == "boxed"
    assert found.form == found.forms[0]


def test_questions_without_all_lambdas_are_left_out(tmp_path):
    found = read_runs([write_run(tmp_path / "run", skip={("3", 0.5), ("7", 1.0)})])
    assert len(found.texts) == 43 and not {"mine/3", "mine/7"} & set(found.names)


def test_several_runs_share_their_lambdas_and_a_question_counts_once(tmp_path):
    first = write_run(tmp_path / "a", lams=(0.0, 0.3, 0.5, 1.0))
    second = write_run(tmp_path / "b", first=30, k=3, name="other")
    found = read_runs([first, second])
    assert found.lams.tolist() == list(LAMS) and found.samples == 2
    assert len(found.texts) == 75 == len(set(found.texts))
    assert sum(name.startswith("other/") for name in found.names) == 30
    assert set(found.benchmarks) == {"mine", "other"}


def test_a_run_that_did_not_count_thoughts_leaves_them_open(tmp_path):
    found = read_runs([write_run(tmp_path / "run", thought=False)])
    assert np.isnan(found.thought_tokens).all() and np.isfinite(found.tokens).all()


def test_the_split_depends_on_the_text_alone(tmp_path):
    a = read_runs([write_run(tmp_path / "a")])
    b = read_runs([write_run(tmp_path / "b", questions=50, name="other")])
    sides = dict(zip(b.texts, b.held_out, strict=True))
    assert [sides[text] for text in a.texts] == a.held_out.tolist()
    assert 2 <= a.held_out.sum() <= 20
    for text, out in zip(a.texts, a.held_out, strict=True):
        digest = hashlib.sha256(text.encode()).hexdigest()[:16]
        assert text_hash(text) == digest and out == (int(digest, 16) % HELD_OUT == 0)
    assert text_hash("What  is\n3?") == text_hash("What is 3?") != text_hash("What is 4?")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"lams": (0.0, 1.0)}, "the runs have in common: 0, 1"),
        ({"lams": (0.0, 0.5, 0.9)}, "from 0 to 1"),
        ({"lams": (0.2, 0.5, 1.0)}, "from 0 to 1"),
        ({"questions": 39}, "39 questions"),
        ({"sources": {"models": {}}}, "answered by servers"),
    ],
)
def test_runs_that_cannot_train_are_refused(tmp_path, options, said):
    with pytest.raises(MullError, match=said):
        read_runs([write_run(tmp_path / "run", **options)])


def test_runs_of_two_pairs_are_refused(tmp_path):
    runs = [write_run(tmp_path / "a"), write_run(tmp_path / "b", sources={**PAIR, "thinking": "c" * 16})]
    with pytest.raises(MullError, match="of another pair than"):
        read_runs(runs)
    with pytest.raises(MullError, match="holds no run"):
        read_runs([tmp_path / "absent"])


def test_a_damaged_run_is_refused(tmp_path):
    folder = write_run(tmp_path / "run")
    with sqlite3.connect(folder / "run.sqlite") as connection:
        connection.execute("UPDATE samples SET tokens = 'many' WHERE question = '3'")
    with pytest.raises(MullError):
        read_runs([folder])


def test_the_small_run_of_the_built_in_pair(measured):
    records, signals = measured
    assert len(records.texts) == 50 and set(records.strata) == set(STRATA)
    assert [each.query for each in signals] == list(records.names)
    assert records.form.opening == "The answer is \\boxed{"
    benchmark = load_benchmark("tiny", questions=50, seed=5)
    assert records.messages == [benchmark.prompt(question) for question in benchmark.questions()]
    assert json.loads(json.dumps(records.benchmarks))["tiny"]["seed"] == 5
