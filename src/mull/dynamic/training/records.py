"""The training data: accuracy and length of every question at every λ of a grid, from the records of sweeps."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mull.benchmarks import AnswerForm, answer_form
from mull.benchmarks.base import Question
from mull.benchmarks.dataset import conversation
from mull.errors import MullError
from mull.runs.plan import benchmark_of
from mull.runs.store import RunStore
from mull.words import counted

HELD_OUT = 5
"""One question of so many is held out of training, to judge the head."""
FEWEST = 40
"""Questions below which a head cannot be trained."""


@dataclass(frozen=True, kw_only=True, eq=False)
class GridRecords:
    """Q questions at K λ."""

    names: Sequence[str]
    """Of each question: benchmark and id."""
    texts: Sequence[str]
    strata: Sequence[str]
    messages: Sequence[list[dict[str, str]]]
    lams: np.ndarray
    """float64 `[K]`, ascending."""
    accuracy: np.ndarray
    tokens: np.ndarray
    thought_tokens: np.ndarray
    """Means over the samples of a question, float64 `[Q, K]`; thought tokens are NaN where the run did not count."""
    samples: int
    """Fewest samples of a question at a λ."""
    pair: Mapping[str, str]
    """Hashes of both sides, as `mull.checkpoints.fingerprint` gives them."""
    forms: Sequence[AnswerForm]
    """Of each question: how its answers begin."""
    benchmarks: Mapping[str, Mapping[str, Any]]
    """Of each benchmark: its record."""

    @property
    def form(self) -> AnswerForm:
        """The form of most questions."""
        return max(dict.fromkeys(self.forms), key=self.forms.count)

    @property
    def held_out(self) -> np.ndarray:
        """Which questions do not train: bool `[Q]`, decided by a hash of the text, so that the same text is always on
        the same side."""
        return np.array([int(text_hash(text), 16) % HELD_OUT == 0 for text in self.texts])


def text_hash(text: str) -> str:
    """Names a question by its text, whatever its benchmark and id: 16 hex digits."""
    return hashlib.sha256(" ".join(text.split()).encode()).hexdigest()[:16]


def read_runs(runs: Sequence[Path]) -> GridRecords:
    """The records of `runs`, all of one pair, at the λ that all of them have.

    Questions that lack samples at one of these λ are left out; a question in several runs counts once.

    Raises:
        MullError: runs of servers or of different pairs, fewer than three common λ, or fewer than `FEWEST` questions.
    """
    found = [_Run.read(run) for run in runs]
    for run, folder in zip(found, runs, strict=True):
        if run.pair != found[0].pair:
            raise MullError(f"{folder} is of another pair than {runs[0]}", "give runs of one pair")
    lams = sorted(set.intersection(*(set(run.lams) for run in found)))
    if len(lams) < 3 or lams[0] != 0 or lams[-1] != 1:
        known = ", ".join(f"{lam:g}" for lam in lams) or "none"
        raise MullError(
            f"training needs λ from 0 to 1, and the runs have in common: {known}",
            "sweep a grid from 0 to 1 with at least three λ",
        )
    rows: dict[str, _Row] = {}
    for run in found:
        for row in run.rows(lams):
            rows.setdefault(text_hash(row.text), row)
    if len(rows) < FEWEST:
        raise MullError(
            f"the runs have {counted(len(rows), 'question')} with samples at all {len(lams)} λ, "
            f"and training needs {FEWEST}",
            "sweep more questions, or let the runs finish",
        )
    complete = list(rows.values())
    means = np.array([[row.means[lam] for lam in lams] for row in complete])
    return GridRecords(
        names=[row.name for row in complete],
        texts=[row.text for row in complete],
        strata=[row.stratum for row in complete],
        messages=[row.messages for row in complete],
        forms=[row.form for row in complete],
        lams=np.array(lams),
        accuracy=means[:, :, 0],
        tokens=means[:, :, 1],
        thought_tokens=means[:, :, 2],
        samples=min(row.samples for row in complete),
        pair=found[0].pair,
        benchmarks={
            name: record
            for run in found
            for name, record in run.plan["benchmark"].get("parts", {run.name: run.plan["benchmark"]}).items()
        },
    )


@dataclass(frozen=True)
class _Row:
    name: str
    text: str
    stratum: str
    messages: list[dict[str, str]]
    form: AnswerForm
    means: Mapping[float, np.ndarray]
    """λ → mean of correct, tokens and thought tokens."""
    samples: int


@dataclass(frozen=True)
class _Run:
    name: str
    pair: Mapping[str, str]
    plan: Mapping[str, Any]
    questions: Mapping[str, Mapping[str, str]]
    values: Mapping[tuple[str, float], list[tuple[float, float, float]]]
    lams: Sequence[float]

    @classmethod
    def read(cls, folder: Path) -> _Run:
        with RunStore.open(folder) as store:
            plan = store.plan
            if "instruct" not in plan:
                raise MullError(
                    f"{folder} was answered by servers, which do not name their weights",
                    "train on a run of `mull sweep --instruct A --thinking B`",
                )
            values: dict[tuple[str, float], list[tuple[float, float, float]]] = {}
            for sample in store.each(texts=False):
                if sample.lam is not None and 0 <= sample.lam <= 1:
                    thought = float("nan") if sample.thought_tokens is None else float(sample.thought_tokens)
                    row = (float(sample.correct), float(sample.tokens), thought)
                    values.setdefault((sample.question, sample.lam), []).append(row)
            pair = {side: str(plan[side]) for side in ("instruct", "thinking")}
            lams = sorted({lam for _, lam in values})
            return cls(plan["benchmark"]["name"], pair, plan, store.questions, values, lams)

    def rows(self, lams: Sequence[float]) -> list[_Row]:
        """The questions that have samples at all of `lams`."""
        rows = []
        for key, question in self.questions.items():
            cells = {lam: self.values.get((key, lam)) for lam in lams}
            known = {lam: cell for lam, cell in cells.items() if cell}
            if len(known) < len(lams):
                continue
            benchmark = benchmark_of(self.plan, question)
            asked = Question(id=key, text=question["text"], gold=question["gold"], stratum=question["stratum"])
            rows.append(
                _Row(
                    name=key if question.get("benchmark") else f"{self.name}/{key}",
                    text=asked.text,
                    stratum=asked.stratum,
                    messages=conversation(asked, benchmark.get("prompt"), benchmark.get("system")),
                    form=answer_form(benchmark),
                    means={lam: np.mean(cell, axis=0) for lam, cell in known.items()},
                    samples=min(len(cell) for cell in known.values()),
                )
            )
        return rows
