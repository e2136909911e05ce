"""Later grades of a run's samples, in the run's database: `mull regrade` adds them, the original grades stay."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from mull.analysis.records import Key
from mull.benchmarks.graders.own_grader import as_named
from mull.errors import MullError
from mull.runs.database import Database, scores_from_json, scores_to_json
from mull.words import counted


class Regrade(NamedTuple):
    """A later grade of one sample."""

    key: Key
    answer: str
    correct: bool
    scores: Mapping[str, float]


class LaterGrades:
    """All later grades of one run. A *grading* is one grader in one version, applied to the run's samples."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._folder = database.path.parent

    def create_table(self) -> None:
        """Make the table if it is missing."""
        columns = (
            'grading TEXT, setting TEXT, question TEXT, "index" INTEGER, answer TEXT, correct INTEGER, scores TEXT'
        )
        key = 'PRIMARY KEY (grading, setting, question, "index")'
        with self._database.writing("work on a copy") as connection:
            connection.execute(f"CREATE TABLE IF NOT EXISTS grades ({columns}, {key})")

    @property
    def gradings(self) -> dict[str, dict[str, Any]]:
        """Name of a grading → what describes it (grader, versions, time)."""
        rows = self._database.read("SELECT key, value FROM meta WHERE key LIKE 'grading:%' ORDER BY rowid")
        try:
            found = {key.partition(":")[2]: json.loads(value) for key, value in rows}
            sound = all(isinstance(each["grader"], dict) for each in found.values())
        except (ValueError, TypeError, KeyError, RecursionError):
            found, sound = {}, False
        if not sound:
            raise self._database.damaged("a grading's description cannot be read")
        return found

    def find(self, name: str) -> str:
        """The full name of the grading called `name`, which may be the grader's name alone.

        Raises:
            MullError: there is none, or several.
        """
        known = self.gradings
        found = [key for key in known if name in (key, known[key].get("grader", {}).get("name"))]
        if len(found) != 1:
            what = "several gradings" if found else "no grading"
            remedy = f"give one of {', '.join(found or known)}" if known else f"`mull regrade {self._folder}` makes one"
            raise MullError(f"{self._folder} has {what} {name!r}", remedy)
        return found[0]

    def graded(self, grading: str) -> set[Key]:
        """The samples that have a grade of `grading`."""
        return set(self._database.read('SELECT setting, question, "index" FROM grades WHERE grading = ?', grading))

    def add(self, grading: str, record: Mapping[str, Any], grades: Collection[Regrade]) -> None:
        """Store later grades beside the original ones; `record` describes the grading."""
        rows = [(grading, *grade.key, grade.answer, grade.correct, scores_to_json(grade.scores)) for grade in grades]
        with self._database.writing() as connection:
            known = (f"grading:{grading}", json.dumps(record))
            connection.execute("INSERT OR IGNORE INTO meta VALUES (?, ?)", known)
            connection.executemany("INSERT OR REPLACE INTO grades VALUES (?, ?, ?, ?, ?, ?, ?)", rows)

    def of(self, grading: str) -> dict[Key, Regrade]:
        """The grades of `grading`. Raises `MullError` where a sample has none."""
        query = 'SELECT setting, question, "index", answer, correct, scores FROM grades WHERE grading = ?'
        grades = {}
        for setting, question, index, answer, correct, scores in self._database.read(query, grading):
            key = (setting, question, index)
            try:
                if not isinstance(answer, str) or correct not in (0, 1):
                    raise ValueError
                grades[key] = Regrade(key, answer, bool(correct), scores_from_json(scores))
            except (ValueError, TypeError, RecursionError):
                raise self._database.damaged(f"the grade of {key} by {grading} is wrong") from None
        keys = list(self._database.read('SELECT setting, question, "index" FROM samples'))
        missing = sum(key not in grades for key in keys)
        if missing:
            grader = as_named({"name": grading, **self.gradings[grading]["grader"]})
            raise MullError(
                f"{missing:,} of {counted(len(keys), 'response')} have no grade of {grading}",
                f"`mull regrade {self._folder} --grader {grader}` goes on",
            )
        return grades
