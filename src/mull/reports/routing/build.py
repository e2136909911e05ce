"""Writes the report of an evaluation: one page, its figures, and every table as CSV and LaTeX."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from mull import __version__
from mull.checkpoints.pair import Pair
from mull.dynamic.evaluation.comparison import Table
from mull.dynamic.evaluation.policies import Policy
from mull.dynamic.evaluation.result import Result
from mull.folders import write_atomically
from mull.reports import renderers
from mull.reports.figures.render import Figure, png, svg
from mull.reports.html.content import Contents, Pairs, Paragraph, Part, Section, Tabular, panels
from mull.reports.html.render import encode, render
from mull.reports.routing.figures import histogram, routes_figure
from mull.reports.routing.sensitivity import TITLE, sensitivity_table, sensitivity_words
from mull.reports.routing.tables import conclusions, routes_table, strata_of

PAGE = "route.html"
_PHONE = (330, 330)
_NOTE = (
    "Every policy answered the same questions with the same random numbers, in one arithmetic (the unrounded mixture). "
    "The static frontier is the upper hull of the static λ, whose lines are mixtures of two; it takes the best λ of "
    "this very run, so the comparison leans against the estimators. The estimators' formulas are our reconstruction of "
    "DAMI, whose paper could not be read whole."
)
_SECONDS = (
    "Seconds are wall-clock seconds of this machine per response, over all sessions, while one policy alone was "
    "sampled, many responses at a time: the inverse of throughput, not what one user waits. Choosing λ is included, "
    "in full for each response; grading is not. They depend on the machine, on the size of the batch, on other jobs "
    "and on how often the run was stopped (responses under way are begun again), and have no interval. Early exit "
    "reads its prompts again after every piece, which an engine with a prefix cache would not. Speed-up: the seconds "
    "of the static frontier (mixtures of two λ included) where it is at least as accurate, over the policy's own."
)
_REPLAYED = (
    "No response was sampled here. Static λ and thinking budgets are those on record. λ(q) was chosen anew, its "
    "tokens are charged, and a question's accuracy and tokens at λ(q) are interpolated linearly between the two "
    "neighbouring λ on record, as if λ(q) were rounded to one of them by lot: the coarser the grid, the further that "
    "may be from the weights at λ(q). The oracle chose by one half of a question's samples and was judged by the "
    "other. There are no seconds, and no budgets or controls beside those on record. The static frontier takes the "
    "best λ of this very run, so the comparison leans against the estimators. The estimators' formulas are our "
    "reconstruction of DAMI, whose paper could not be read whole."
)


class Named(Protocol):
    """A benchmark, of which the page needs the name."""

    @property
    def name(self) -> str: ...


class Compared(Protocol):
    """What was compared: an evaluation or a replay."""

    @property
    def pair(self) -> Pair: ...

    @property
    def benchmarks(self) -> Sequence[Named]: ...

    @property
    def policies(self) -> Sequence[Policy]: ...

    @property
    def k(self) -> int: ...


def write_report(evaluation: Compared, result: Result, folder: Path, sensitivity: Table | None = None) -> list[Path]:
    """Writes page, figures and tables into `folder`; returns the paths, the page first. `sensitivity`: see
    `mull.dynamic.evaluation.sensitivity.study`."""
    written: list[Path] = []

    def write(name: str, data: bytes) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / name, data)
        written.append(folder / name)

    studied = [sensitivity_table(sensitivity)] if sensitivity else []
    for shown in [*map(routes_table, result.tables), *studied]:
        write(f"tables/{shown.name}.csv", renderers.csv(shown))
        write(f"tables/{shown.name}.tex", renderers.latex(shown).encode())
    for name, figure in _figures(result):
        write(f"figures/{name}.svg", svg(figure, opaque=True).encode())
        write(f"figures/{name}.png", png(figure))
    write(PAGE, page(evaluation, result, sensitivity).encode())  # the page last: where it stands, the rest is there
    written.insert(0, written.pop())
    return written


def page(evaluation: Compared, result: Result, sensitivity: Table | None = None) -> str:
    """The page as text."""
    sections = [*_findings(result), *_by_benchmark(result), *_choices(result)]
    sections += [*_sensitivity(sensitivity), _record(evaluation)]
    first = result.tables[0]
    names = ", ".join(benchmark.name for benchmark in evaluation.benchmarks)
    source = f" · {first.source}" if first.source else ""
    title = f"λ per query · {evaluation.pair.instruct.published_name} and {evaluation.pair.thinking.published_name}"
    return render(
        "base.html",
        kind="route",
        skip_to="findings",
        title=title,
        scope=f"{names} · {first.questions:,} questions × {evaluation.k}{source}",
        incomplete=None,
        contents=[Contents([(section.key, section.title) for section in sections])],
        sections=sections,
        footer=f"Made by mull {__version__}.",
        data=encode({"responses": []}),
    )


def _figures(result: Result) -> list[tuple[str, Figure]]:
    figures: list[tuple[str, Figure]] = [(f"routes-{found.benchmark}", routes_figure(found)) for found in result.tables]
    for name, lams in strata_of(result).items():
        figures.append((f"lambda-{name}", histogram(lams)))
    return figures


def _findings(result: Result) -> list[Section]:
    found = result.tables[0]
    parts: list[Part] = [
        *(Paragraph(line) for line in conclusions(result)),
        _frontier(found),
        Tabular(routes_table(found)),
        *(Paragraph(note, note=True) for note in ([_REPLAYED] if found.source else [_NOTE, _SECONDS])),
    ]
    return [Section("findings", "Does λ per query pay?", parts)]


def _frontier(found: Table) -> Part:
    names = ", ".join(f"{row.label} {100 * row.accuracy:.1f} % with {row.tokens:,.0f}" for row in found.rows)
    return panels(
        f"routes-{found.benchmark}",
        lambda v: [routes_figure(found, v), routes_figure(found, v, _PHONE)],
        [f"Accuracy over tokens: {names} tokens"] * 2,
        "A policy above the joined line knows something about the questions: at its tokens no static λ is as accurate.",
        versions=("wide-only", "narrow-only"),
    )


def _by_benchmark(result: Result) -> list[Section]:
    if len(result.tables) < 2:
        return []
    return [
        Section(f"on-{found.benchmark}", found.benchmark, [_frontier(found), Tabular(routes_table(found))])
        for found in result.tables[1:]
    ]


def _choices(result: Result) -> list[Section]:
    every = strata_of(result)
    if not every:
        return []
    parts: list[Part] = []
    for name, lams in every.items():
        means = "; ".join(f"{stratum or 'all'} {sum(each) / len(each):.2f}" for stratum, each in lams.items())
        parts.append(
            panels(
                f"lambda-{name}",
                lambda v, lams=lams: [histogram(lams, v), histogram(lams, v, 250)],
                [f"λ that {name} chose, mean by difficulty: {means}"] * 2,
                f"{name}: mean λ by difficulty: {means}.",
                versions=("wide-only", "narrow-only"),
            )
        )
    return [Section("choices", "λ by difficulty", parts)]


def _sensitivity(found: Table | None) -> list[Section]:
    if found is None:
        return []
    words = [Paragraph(line) for line in sensitivity_words(found)]
    return [Section("sensitivity", TITLE, [*words, Tabular(sensitivity_table(found))])]


def _record(evaluation: Compared) -> Section:
    policies: Sequence[tuple[str, str]] = [
        (policy.label, _shown(policy.setting().policy)) for policy in evaluation.policies if policy.kind != "static"
    ]
    return Section("record", "Policies", [Pairs(policies, "What decides each policy")])


def _shown(record: Mapping[str, object] | None) -> str:
    return ", ".join(f"{key} {value}" for key, value in (record or {}).items() if key != "lams") or "its sampling alone"
