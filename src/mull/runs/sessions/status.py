"""How far a run is, read from its folder while another process may be writing it. Writes nothing."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from mull.errors import MullError
from mull.folders import is_locked
from mull.runs.plan import StudyKind, benchmarks_of
from mull.runs.store import DATABASE, RunStore


class Status(NamedTuple):
    """What is on record in a run folder."""

    benchmark: str
    study: StudyKind
    questions: int
    k: int
    responses: int
    """On record."""
    planned: int
    """Of the whole plan. A race (`mull choose`) samples only a part of it."""
    missing: dict[str, int]
    """Setting → how many of its responses are not on record; only settings that lack some."""
    settings: list[str]
    under_way: bool | None
    """Whether another process is writing to the folder now; None if the file system cannot tell."""
    is_race: bool
    """Whether `mull choose` sampled last, which ends before the whole plan is sampled."""
    started: str | None
    """When the first session began, in ISO 8601."""
    last_written: str
    """When the database was last written, in ISO 8601."""
    tokens_per_second: float | None
    """Of the sessions that have ended; of a first one that has not, from its start to the last write. None: unknown."""
    seconds_left: float | None
    """For the missing responses, if they are as long as those on record on average; None if it is unknown."""
    engine: str
    kernels: list[str]
    """What decided the last bits of responses, in the order of sessions, each once."""
    benchmarks: dict[str, Progress]
    """Of a run of several benchmarks each; empty where there is one."""


class Progress(NamedTuple):
    """One benchmark of several."""

    questions: int
    responses: int
    """On record."""
    planned: int


def status(folder: Path) -> Status:
    """The status of the run in `folder`. Raises `MullError` if it holds none."""
    inside = sorted(each.parent.name for each in folder.glob(f"*/{DATABASE}")) if folder.is_dir() else []
    if inside and not (folder / DATABASE).exists():
        raise MullError(f"{folder} holds no run itself, but the runs {', '.join(inside)}", "give those folders")
    written = _last_written(folder)  # before the database is opened, which may make SQLite's own files beside it
    with RunStore.open(folder) as store:
        plan, provenance, questions, race = store.plan, store.provenance, len(store.questions), store.under_way
        pace, kernels, tallies = store.pace, store.kernels, store.tallies()
        asked = Counter(about.get("benchmark") for about in store.questions.values())
        recorded = store.by_benchmark()
    settings = list(plan["settings"])
    full = len(settings) * plan["k"]
    each = questions * plan["k"]
    missing = {name: each - tallies.get(name, (0, 0))[0] for name in settings}
    missing = {name: count for name, count in missing.items() if count > 0}
    responses, tokens = (sum(column) for column in zip((0, 0), *tallies.values(), strict=True))
    started = _time(provenance.get("started"))
    if pace is not None:
        speed = pace.tokens / pace.seconds if pace.seconds > 0 else None
    else:
        passed = (written - started).total_seconds() if started else 0.0
        speed = tokens / passed if passed > 0 and tokens else None
    left = sum(missing.values()) * tokens / responses / speed if speed and missing and race is None else None
    return Status(
        benchmark=plan["benchmark"]["name"],
        study=StudyKind(plan["study"]),
        questions=questions,
        k=plan["k"],
        responses=responses,
        planned=each * len(settings),
        missing=missing,
        settings=settings,
        under_way=is_locked(folder),
        is_race=race is not None,
        started=started.isoformat(timespec="seconds") if started else None,
        last_written=written.isoformat(timespec="seconds"),
        tokens_per_second=speed,
        seconds_left=left,
        engine=plan["engine"],
        kernels=kernels,
        benchmarks={
            name: Progress(asked[name], recorded.get(name, 0), asked[name] * full) for name in benchmarks_of(plan)
        },
    )


def _last_written(folder: Path) -> datetime:
    """When the database or its write-ahead log was written; an empty log is made by readers, too."""
    times = [0.0]
    for name in (DATABASE, f"{DATABASE}-wal"):
        try:
            found = (folder / name).stat()
        except OSError:
            continue  # `RunStore.open` says what is wrong with the folder
        times += [found.st_mtime] if found.st_size else []
    return datetime.fromtimestamp(max(times), UTC)


def _time(text: object) -> datetime | None:
    try:
        found = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
