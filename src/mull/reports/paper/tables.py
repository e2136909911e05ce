"""The paper's tables from the user's runs: main comparison, layers, modules, decoding, backbones.

What the paper does not have is in `mull.reports.paper.further`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from mull.analysis.by_question import Mark, Metric, differences_by_question, leaders
from mull.analysis.metrics import Estimate, SettingMetrics
from mull.analysis.paired import paired_mean
from mull.analysis.tables import PublishedRow
from mull.reports.format import at, common_k, per_question
from mull.reports.paper import names
from mull.reports.paper.runs import OWN_INSTRUCT, Arena, Run, Studies
from mull.reports.table import Cell, Column, Row, Table
from mull.runs.paper.kinds import lambda_of
from mull.runs.paper.published import (
    LAYERS,
    PUBLISHED,
    benchmark_title,
    layer_count,
    published_setting,
    published_spread,
    published_sweep,
)
from mull.runs.plan import StudyKind
from mull.words import counted

ERRORS = "± one standard error, clustered by question."
UNITS = f"Accuracies and Think #R in %, Token #N in tokens per response, {ERRORS}"


def paper_tables(studies: Studies, *, overlay: bool) -> list[Table]:
    """All of the paper's tables that the runs hold; `overlay` adds the published values."""
    found = [comparison(studies.arenas, overlay=overlay)] if studies.arenas else []
    for kind, build in ((StudyKind.layers, ablation), (StudyKind.modules, ablation), (StudyKind.decoding, decoding)):
        found += [build(run, overlay=overlay) for run in studies.of(kind)]
    return found + [ablation(run, overlay=overlay) for run in studies.of(StudyKind.backbone)]


def comparison(arenas: Sequence[Arena], *, overlay: bool) -> Table:
    """Methods down, benchmarks across: Mean@k, Pass@k (Vote@k of GPQA), Token #N, Think #R."""
    columns: list[Column] = []
    own: list[dict[str, list[Cell]]] = []
    theirs: list[dict[str, list[Cell]]] = []
    for arena in arenas:
        shown = _metrics_of(arena.benchmark, arena.metrics)
        columns += _columns(arena.benchmark, arena.metrics, shown, benchmark_title(arena.benchmark))
        owned = OWN_INSTRUCT in {m.setting for m in arena.metrics}
        rows = names.ordered(arena.metrics, owned)
        ranked: list[Metric] = [metric for metric in shown if metric.endswith("_at_k") and arena.complete]
        marks = {metric: leaders(arena.scored, metric) for metric in ranked}
        own.append(
            {
                name: [measured(m, metric, marks.get(metric, {}).get(m.setting, "")) for metric in shown]
                for name, m in rows.items()
            }
        )
        found = {row.method: row for row in published_sweep(arena.benchmark)} if overlay else {}
        theirs.append({name: [as_published(row, metric) for metric in shown] for name, row in found.items()})
    rows = _joined(own, columns)
    if any(theirs):
        rows = [Row(row.name, row.cells, "These runs") for row in rows]
        rows += [Row(row.name, row.cells, f"Published: {PUBLISHED}") for row in _joined(theirs, columns)]
    notes = [f"{benchmark_title(arena.benchmark)}: {scope(arena)}." for arena in arenas]
    if any(OWN_INSTRUCT in {m.setting for m in arena.metrics} for arena in arenas):
        notes.append("Instruct is sampled as its own run says, all else as Thinking.")
    return Table(
        name="comparison",
        title="Interpolation beside other ways to merge",
        caption=f"{' '.join(notes)} {UNITS}",
        head="Method",
        columns=columns,
        rows=rows,
    )


def ablation(run: Run, *, overlay: bool) -> Table:
    """Settings down; Mean@k, Pass@k, Think #R and Token #N across, the published ones behind."""
    found = list(run.metrics.values())
    shown: list[Metric] = [m for m in ("mean_at_k", "pass_at_k", "think_ratio", "tokens") if _worth(m, found)]
    columns = _columns("own", found, shown, benchmark_title(run.benchmark))
    titles = names.setting_titles(run)
    published = {setting: published_setting(run.plan, setting) if overlay else None for setting in run.metrics}
    rows = [row for row in published.values() if row]
    theirs: list[Metric] = [m for m in shown if any(not math.isnan(getattr(row, m)) for row in rows)]
    if rows:
        group = f"Published: {PUBLISHED}, {benchmark_title(rows[0].benchmark)}"
        columns += [
            _column(f"published_{m}", m, rows[0].k, group, [getattr(row, m) for row in rows], decimals=2)
            for m in theirs
        ]
    lam = lambda_of(run.plan)
    head = {StudyKind.layers: "Layer", StudyKind.modules: "Module", StudyKind.backbone: "Backbone"}[run.kind]
    where = {
        StudyKind.layers: "in the layers named (both included), Instruct’s parameters elsewhere",
        StudyKind.modules: "in the modules named, Instruct’s parameters elsewhere (w/o: the other way round)",
        StudyKind.backbone: "between each backbone and Thinking",
    }[run.kind]
    beside = ""
    if rows and run.kind == StudyKind.layers and layer_count(run.plan) != LAYERS:
        beside = f" Published: the same share of {LAYERS} layers."
    return Table(
        name=f"{run.kind}-{run.benchmark}",
        title=f"{head}s, {benchmark_title(run.benchmark)}",
        caption=f"λ = {lam:g} {where}; {scope(run)}. {UNITS}{beside}",
        head=head,
        columns=columns,
        rows=[
            Row(
                titles[setting],
                [measured(m, metric) for metric in shown]
                + [as_published(row, metric) if (row := published[setting]) else Cell() for metric in theirs],
            )
            for setting, m in run.metrics.items()
        ],
    )


def decoding(run: Run, *, overlay: bool) -> Table:
    """Temperatures down, top-p across, of Mean@k and of Think #R."""
    grid = decoding_grid(run)
    temperatures, top_ps = (sorted({key[i] for key in grid}) for i in (0, 1))
    shown: list[tuple[Metric, str]] = [
        ("mean_at_k", f"{at('Mean', per_question(list(grid.values())))}, %"),
        ("think_ratio", "Think #R, %"),
    ]
    columns = [
        Column(key=f"{metric}_top_p_{top_p:g}", head=f"top-p {top_p:g}", group=group, scale=100)
        for metric, group in shown
        for top_p in top_ps
    ]
    rows = [
        Row(
            f"T = {temperature:g}",
            [
                measured(m, metric) if (m := grid.get((temperature, top_p))) else Cell()
                for metric, _ in shown
                for top_p in top_ps
            ],
        )
        for temperature in temperatures
    ]
    spread = spread_words(run, overlay=overlay)
    return Table(
        name=f"decoding-{run.benchmark}",
        title=f"Temperature and top-p, {benchmark_title(run.benchmark)}",
        caption=f"λ = {lambda_of(run.plan):g}; {scope(run)}. In %, {ERRORS} {spread}".strip(),
        head="Temperature",
        columns=columns,
        rows=rows,
    )


def decoding_grid(run: Run) -> dict[tuple[float, float], SettingMetrics]:
    """(temperature, top-p) → metrics."""
    sampling = {setting: record["sampling"] for setting, record in run.plan["settings"].items()}
    return {(sampling[s]["temperature"], sampling[s]["top_p"]): m for s, m in run.metrics.items()}


def spread_words(run: Run, *, overlay: bool) -> str:
    """The largest Mean@k less the smallest, beside the published one; empty where no difference can be paired, and of
    an incomplete run, whose extremes are those that met the easier questions so far."""
    ranked = sorted(run.metrics.values(), key=lambda m: m.mean_at_k.value)
    values = differences_by_question(run.scored, ranked[-1].setting, ranked[0].setting, "mean_at_k")
    if not run.complete or len(ranked) < 2 or values.size < 2:
        return ""
    found = paired_mean(values, share=True)
    words = (
        f"Largest less smallest Mean@k: {100 * found.difference:.1f} ± {100 * found.error:.1f} points (paired by "
        f"question), the most extreme of {len(ranked)} settings."
    )
    row = published_spread(run.plan) if overlay else None
    return f"{words} Published ({PUBLISHED}): {100 * row.mean_at_k:.1f}." if row else words


def scope(of: Arena | Run) -> str:
    """`run gpqa, n = 198 questions × 8 samples`, with the k of Pass@k where it is not that of the plan."""
    runs = of.runs if isinstance(of, Arena) else [of]
    n = max(run.questions for run in runs)
    plural = "s" if len(runs) > 1 else ""
    planned, k = runs[0].plan["k"], common_k(list(of.metrics.values() if isinstance(of, Run) else of.metrics))
    fewer = f" (Pass@{k}: of so many every question has an answer)" if k not in (1, planned) else ""
    return f"run{plural} {of.name}, n = {counted(n, 'question')} × {counted(planned, 'sample')}{fewer}"


def measured(m: SettingMetrics, metric: str, mark: Mark = "") -> Cell:
    """A metric as a cell."""
    estimate: Estimate = getattr(m, metric)
    return Cell.of(estimate, mark)


def as_published(row: PublishedRow, metric: str) -> Cell:
    """A published value as a cell."""
    return Cell(getattr(row, metric))


def _metrics_of(benchmark: str, found: Sequence[SettingMetrics]) -> list[Metric]:
    shown: tuple[Metric, ...] = ("mean_at_k", names.second_metric(benchmark), "tokens", "think_ratio")
    return [metric for metric in shown if _worth(metric, found)]


def _worth(metric: str, found: Sequence[SettingMetrics]) -> bool:
    """With one sample per question, Pass@k and Vote@k repeat Mean@k."""
    return {"pass_at_k": common_k(found), "vote_at_k": per_question(found)}.get(metric) != 1


def _columns(key: str, found: Sequence[SettingMetrics], shown: Iterable[Metric], group: str) -> list[Column]:
    ks = {"pass_at_k": common_k(found)}
    each = per_question(found)
    return [_column(f"{key}_{m}", m, ks.get(m, each), group, [getattr(x, m).value for x in found]) for m in shown]


def _column(key: str, metric: str, k: int | None, group: str, values: Sequence[float], decimals: int = 1) -> Column:
    """Shares in percent, as the caption says; thousands of tokens need no decimals."""
    head = _head(metric, k)
    if metric != "tokens":
        return Column(key=key, head=head, group=group, scale=100, decimals=decimals)
    most = max((v for v in values if not math.isnan(v)), default=0)
    return Column(key=key, head=head, group=group, decimals=decimals if most < 1000 else 0)


def _head(metric: str, k: int | None) -> str:
    if metric in ("mean_at_k", "pass_at_k", "vote_at_k"):
        return at(metric[:4].title(), k)
    return "Token #N" if metric == "tokens" else "Think #R"


def _joined(found: Sequence[Mapping[str, Sequence[Cell]]], columns: Sequence[Column]) -> list[Row]:
    """One row per name over all benchmarks; empty cells where a benchmark has none."""
    widths = [sum(1 for _ in group) for group in _by_group(columns)]
    every = sorted({name for rows in found for name in rows}, key=names.method_order)
    return [
        Row(
            name, [cell for rows, width in zip(found, widths, strict=True) for cell in rows.get(name, [Cell()] * width)]
        )
        for name in every
    ]


def _by_group(columns: Sequence[Column]) -> list[list[Column]]:
    groups: dict[str, list[Column]] = {}
    for column in columns:
        groups.setdefault(column.group, []).append(column)
    return list(groups.values())
