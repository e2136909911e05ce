"""Tables that go with the paper's: kinds of thinking and failures, significance, cost. One section per study."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from mull.analysis.metrics import KINDS, SettingMetrics
from mull.analysis.paired import compare
from mull.analysis.records import Sample
from mull.errors import MullError, nearest
from mull.reports.paper import names
from mull.reports.paper.runs import OWN_INSTRUCT, Arena, Run, Studies
from mull.reports.paper.tables import ERRORS, measured, scope
from mull.reports.table import Cell, Column, Row, Table
from mull.reports.tables import DIFFERENCES, cost_table, difference_cells, difference_columns
from mull.runs.paper.published import SOURCE, benchmark_title
from mull.runs.plan import StudyKind


class Section(NamedTuple):
    """The settings of one study under their names."""

    title: str
    rows: Mapping[str, SettingMetrics]
    samples: Sequence[Sample]
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
            _reference(arena, reference),
            arena.complete,
        )
    for kind in (StudyKind.layers, StudyKind.modules, StudyKind.decoding, StudyKind.backbone):
        for run in studies.of(kind):
            titles = names.setting_titles(run)
            rows = {titles[setting]: m for setting, m in run.metrics.items()}
            title = f"{_WORDS[kind]} on {benchmark_title(run.benchmark)}: {scope(run)}"
            yield Section(title, rows, run.samples, _ablation_reference(run), run.complete)


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
        caption=f"% of responses, {ERRORS} Closed: has </think>; forced: closed by a thinking budget; pseudo-closed: "
        f"another tag stands where </think> belongs (table 6 of {SOURCE}); unclosed: cut off while thinking. Cut off: "
        "hit the token limit; no answer: the grader found none.",
        head="Setting",
        columns=columns,
        rows=rows,
    )


def significance(found: Sequence[Section]) -> Table:
    """Differences in accuracy and tokens from each section's reference, as in the run's own report.

    A run that was stopped has differences alone: what two settings have both answered is what was answered briefly.
    """
    rows: list[Row] = []
    for section in found:
        names_of = {m.setting: name for name, m in section.rows.items()}
        others = [(setting, section.reference) for setting in names_of if setting != section.reference]
        for each in compare(section.samples, others):
            name = f"{names_of[each.setting]} − {names_of[section.reference]}"
            rows.append(Row(name, difference_cells(each, section.complete), section.title))
    stopped = "" if all(section.complete for section in found) else ", or the run is incomplete (then no interval)"
    table = Table(
        name="significance",
        title="Differences from the reference",
        caption=f"Each setting minus its section’s reference on the same questions: {DIFFERENCES}, within the section. "
        f"A dash: every question shows the same difference, or there is only one{stopped}.",
        head="Difference",
        columns=difference_columns(),
        rows=rows,
    )
    return table.select("accuracy", "p_value", "tokens", "questions")
