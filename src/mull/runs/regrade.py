"""Grades the stored responses of a run again; nothing is sampled, and the original grades stay."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mull.benchmarks import BENCHMARKS, GRADERS, Grade, Question, load_benchmark, make_grader
from mull.benchmarks.graders.own_grader import as_named
from mull.benchmarks.several import check_names
from mull.errors import MullError
from mull.runs.grading import Grades, grade_response, keep_grader
from mull.runs.later_grades import Regrade
from mull.runs.plan import tags_of
from mull.runs.store import RunStore
from mull.words import counted

BATCH = 200
"""Grades per write."""


def regrade(
    store: RunStore,
    grader: str | Mapping[str, str] | None = None,
    data: Path | None = None,
    on_grade: Callable[[int], object] | None = None,
) -> str:
    """Grade every response of `store` (see `RunStore.amend`) that has no grade of this grading; returns its name.

    `grader` is a grader's name, by default that of the run, in the version installed now; for a run of several
    benchmarks also a mapping from their names. `data` is a data file of the run's benchmark with other gold answers.
    May be stopped and called again. `on_grade` gets the number of responses that were done since its last call.

    Raises:
        MullError: unknown grader, or a data file that does not hold the run's questions.
    """
    record, tags = store.plan["benchmark"], tags_of(store.plan)
    judge, described = _grader(record, grader)
    questions = _questions(store, record, data)
    if data is not None:
        golds = json.dumps(sorted((q.id, q.gold) for q in questions.values()))
        described["golds"] = hashlib.sha256(golds.encode()).hexdigest()[:16]
    digest = hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:8]
    name = f"{described['name']}-{digest}"
    about = {"grader": described, "graded": datetime.now(UTC).isoformat(timespec="seconds")}
    for each in judge.graders.values() if isinstance(judge, _OfEach) else [judge]:
        keep_grader(each, store.folder)
    done = store.later_grades.graded(name)
    batch: list[Regrade] = []
    for sample in store.each():
        if sample.key not in done:
            question = questions.get(sample.question)
            if question is None:
                what = f"{store.folder} holds a response to {sample.question!r}, a question that its plan does not list"
                raise MullError(what, "restore the run, or sample it again into a new folder")
            finished = sample.finish == "stop"
            grade = grade_response(judge, question, sample.text, finished=finished, tags=tags).grade
            batch.append(Regrade(sample.key, grade.answer, grade.correct, grade.scores))
        if len(batch) == BATCH:
            store.later_grades.add(name, about, batch)
            batch = []
        if on_grade:
            on_grade(1)
    store.later_grades.add(name, about, batch)
    return name


def _grader(record: dict[str, Any], name: str | Mapping[str, str] | None) -> tuple[Grades, dict[str, Any]]:
    """The grader and its description. A benchmark that names no grader grades its questions itself.

    A user's file is run only if it is given: a run that names one may come from somebody else."""
    if not isinstance(name, str) and "parts" in record:
        check_names("grader", name or {}, list(record["parts"]))
        each = {part: _grader(own, (name or {}).get(part)) for part, own in record["parts"].items()}
        names = "+".join(dict.fromkeys(described["name"] for _, described in each.values()))
        described = {"name": names, **{part: json.dumps(own) for part, (_, own) in each.items()}}
        return _OfEach({part: judge for part, (judge, _) in each.items()}), described
    assert not isinstance(name, Mapping)
    if name is None and "sha256" in record.get("grader", {}):
        own = as_named(record["grader"])
        raise MullError(f"the run was graded by a function of its user's own, {own}", f"give it: --grader {own}")
    run_grader = record.get("grader", {}).get("name")
    if name is not None or run_grader is not None:
        grader = make_grader(run_grader if name is None else name)
        return grader, dict(grader.describe())
    return load_benchmark(record["name"]), {"name": record["name"]}


class _OfEach:
    """The graders of several benchmarks."""

    def __init__(self, graders: dict[str, Grades]) -> None:
        self.graders = graders

    def grade(self, question: Question, answer: str) -> Grade:
        return self.graders[question.benchmark].grade(question, answer)


def _questions(store: RunStore, record: dict[str, Any], data: Path | None) -> dict[str, Question]:
    known = {
        key: Question(
            id=key,
            text=about["text"],
            gold=about["gold"],
            stratum=about.get("stratum", ""),
            benchmark=about.get("benchmark", ""),
        )
        for key, about in store.questions.items()
    }
    if data is None:
        return known
    if "parts" in record:
        raise MullError(f"{store.folder} holds several benchmarks: {record['name']}", "leave --data out")
    run_grader = record.get("grader", {}).get("name", "exact")
    run_grader = run_grader if run_grader in GRADERS else "exact"  # a user's own: only the questions are read here
    given = {q.id: q for q in _load(record, data, run_grader)}
    missing = [key for key, question in known.items() if key not in given or given[key].text != question.text]
    if missing:
        raise MullError(
            f"{data} lacks {len(missing):,} of the run's {counted(len(known), 'question')}, {missing[0]!r} for one",
            "only gold answers may differ",
        )
    return {key: given[key] for key in known}


def _load(record: dict[str, Any], data: Path, run_grader: str) -> list[Question]:
    if record["name"] in BENCHMARKS:
        return list(load_benchmark(record["name"], data=data).questions())
    return list(load_benchmark(str(data), grader=run_grader).questions())
