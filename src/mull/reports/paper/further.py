"""Tables that go with the paper's: kinds of thinking and failures, significance, cost. One section per study."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from mull.analysis.by_question import RESAMPLES, Metric, Scored, bootstrapped, differences_by_question
from mull.analysis.metrics import KINDS, SettingMetrics
from mull.analysis.paired import PairedDifference, holm
from mull.analysis.records import Sample
from mull.errors import MullError, nearest
from mull.reports.paper import names
from mull.reports.paper.runs import OWN_INSTRUCT, Arena, Run, Studies
from mull.reports.paper.tables import ERRORS, measured, scope
from mull.reports.table import Cell, Column, Row, Table
from mull.reports.tables import cost_table
from mull.runs.paper.published import SOURCE, benchmark_title
from mull.runs.plan import StudyKind


class Section(NamedTuple):
    """The settings of one study under their names."""

    title: str
    rows: Mapping[str, SettingMetrics]
    samples: Sequence[Sample]
    scored: Mapping[str, Mapping[str, Scored]]
    reference: str
    """Setting that the others are compared with."""
    complete: bool
    """Whether all responses are there."""


def further_tables(studies: Studies, reference: str | None = None) -> list[Table]:
    """Kinds of thinking, significance, cost. `reference` is a setting of the comparisons, by default the highest λ.

    Raises `MullError` where no sweep and no comparison has that setting.
    """
    found = list(sections(studies, reference))
    costs = cost_table([(section.title, section.rows, section.samples) for section in found])
    tables = [thinking(found), significance(found), costs]
    return [table for table in tables if table.rows]


def sections(studies: Studies, reference: str | None = None) -> Iterator[Section]:
    """Each benchmark's sweep and comparison as one, then each ablation."""
    known = {m.setting for arena in studies.arenas for m in arena.metrics}
    if reference is not None and reference not in known:
        raise MullError(f"no sweep or comparison has the setting {reference!r}", nearest(reference, known))
    for arena in studies.arenas:
        owned = any(m.setting == OWN_INSTRUCT for m in arena.metrics)
        rows = names.ordered(arena.metrics, owned)
        yield Section(
            f"{benchmark_title(arena.benchmark)}: {scope(arena)}",
            rows,
            arena.samples,
            arena.scored,
            _reference(arena, reference),
            arena.complete,
        )
    for kind in (StudyKind.layers, StudyKind.modules, StudyKind.decoding, StudyKind.backbone):
        for run in studies.of(kind):
            titles = names.setting_titles(run)
            rows = {titles[setting]: m for setting, m in run.metrics.items()}
            title = f"{_WORDS[kind]} on {benchmark_title(run.benchmark)}: {scope(run)}"
            yield Section(title, rows, run.samples, run.scored, _ablation_reference(run), run.complete)


_WORDS = {
    StudyKind.layers: "Layers",
    StudyKind.modules: "Modules",
    StudyKind.decoding: "Decoding",
    StudyKind.backbone: "Backbones",
}


def _reference(arena: Arena, wanted: str | None) -> str:
    settings = [m.setting for m in arena.metrics]
    with_lam = [m.setting for m in arena.metrics if m.lam is not None]
    return wanted if wanted in settings else (with_lam or settings)[-1]


def _ablation_reference(run: Run) -> str:
    """The paper's way of sampling where a decoding study has it; else the first setting."""
    if run.kind == StudyKind.decoding:
        own = run.plan["sampling"]
        for setting, record in run.plan["settings"].items():
            if setting in run.metrics and record["sampling"] == own:
                return setting
    return run.reference


def thinking(found: Sequence[Section]) -> Table:
    """Shares of each kind of thinking, of cut-off responses and of those without an answer."""
    columns = [Column(key=f"thinking_{kind}", head=kind, group="Kind of thinking", scale=100) for kind in KINDS]
    columns += [
        Column(key="truncation", head="cut off", group="Failures", scale=100),
        Column(key="unanswered", head="no answer", group="Failures", scale=100),
    ]
    rows = [
        Row(
            name,
            [Cell.of(m.thinking[kind]) for kind in KINDS] + [measured(m, "truncation"), measured(m, "unanswered")],
            section.title,
        )
        for section in found
        for name, m in section.rows.items()
    ]
    return Table(
        name="thinking",
        title="Kinds of thinking, and failures",
        caption=f"% of responses, {ERRORS} Closed: has </think>; pseudo-closed: another tag stands where </think> "
        f"belongs (table 6 of {SOURCE}); unclosed: cut off while thinking. Cut off: hit the token limit; no "
        "answer: the grader found none.",
        head="Setting",
        columns=columns,
        rows=rows,
    )


def significance(found: Sequence[Section]) -> Table:
    """Differences in accuracy and tokens from each section's reference, by a paired bootstrap, p by Holm.

    A run that was stopped has differences alone: what two settings have both answered is what was answered briefly.
    """
    columns = [
        Column(key="accuracy", head="Mean@k, points", scale=100, signed=True),
        Column(key="p_holm", head="p", decimals=4),
        Column(key="tokens", head="Token #N", signed=True),
        Column(key="questions", head="questions", decimals=0),
    ]
    rows: list[Row] = []
    for section in found:
        if len(section.rows) < 2:
            continue
        others = {name: m.setting for name, m in section.rows.items() if m.setting != section.reference}
        less = next(name for name, m in section.rows.items() if m.setting == section.reference)
        accuracy = {name: _bootstrap(section, setting, "mean_at_k") for name, setting in others.items()}
        tokens = {name: _bootstrap(section, setting, "tokens") for name, setting in others.items()}
        adjusted = holm([difference.p_value if section.complete else math.nan for difference in accuracy.values()])
        for (name, difference), p_value in zip(accuracy.items(), adjusted, strict=True):
            questions = Cell(difference.questions)
            both = Cell.difference(difference), Cell.difference(tokens[name])
            if not section.complete:
                both = Cell(both[0].value), Cell(both[1].value)
            cells = [both[0], Cell(p_value), both[1], questions]
            rows.append(Row(f"{name} − {less}", cells, section.title))
    stopped = "" if all(section.complete for section in found) else ", or the run is incomplete (then no interval)"
    return Table(
        name="significance",
        title="Differences from the reference",
        caption=f"Each setting minus its section’s reference on the same questions: 95 % intervals and p of a paired "
        f"bootstrap over questions ({RESAMPLES:,} resamples, so p is at least {1 / (RESAMPLES + 1):.4f} before the "
        "correction); p is of no difference in Mean@k, corrected by Holm’s method within the section. A dash: every "
        f"question shows the same difference other than 0, or there is only one{stopped}.",
        head="Difference",
        columns=columns,
        rows=rows,
    )


def _bootstrap(section: Section, setting: str, metric: Metric) -> PairedDifference:
    return bootstrapped(differences_by_question(section.scored, setting, section.reference, metric))
