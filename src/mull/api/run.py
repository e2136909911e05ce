"""`Run`: a run folder as an object: its figures, its samples, choices and reports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from mull.analysis.choosing.choose import choose
from mull.analysis.choosing.options import Goal
from mull.analysis.comparable import comparable
from mull.analysis.records import of_every_benchmark
from mull.analysis.stages import Stages
from mull.api.choice import Choice
from mull.api.progress import observer_of
from mull.api.showing import figure_html, paragraphs, table_html, table_text
from mull.benchmarks.several import AVERAGE
from mull.errors import MullError
from mull.reports.format import stages_text
from mull.reports.results import Results, results
from mull.reports.table import Table
from mull.reports.tables import BRIEF, differences_table, metrics_table
from mull.runs.plan import benchmarks_of
from mull.runs.store import RunStore
from mull.words import counted

if TYPE_CHECKING:
    import polars

    from mull.api.pushing import Pushed
    from mull.reports.figures.render import Figure


class Run:
    """What a run folder holds, finished or not, as it was when it was first asked. Open it again for what came since.

    Example:
        >>> run = Run.open("run")
        >>> run.metrics.select("lambda", "mean_at_k", "mean_at_k_error", "tokens")
        >>> run.choose(budget=1500).lam
    """

    def __init__(self, folder: str | Path, *, grading: str | None = None, k: int | None = None) -> None:
        """As `open`."""
        self.folder = Path(folder)
        self._place = self.folder.absolute()  # a notebook may change its working directory
        self.grading, self.k = grading, k
        with self._store():
            pass

    @classmethod
    def open(cls, folder: str | Path, *, grading: str | None = None, k: int | None = None) -> Run:
        """The run in `folder`. `grading`: later grades of `mull regrade` to read in place of the original ones. `k`: of
        Pass@k; None: the samples per question.

        Raises `MullError` where the folder holds no run or one of an earlier mull, or no such grades.
        """
        return cls(folder, grading=grading, k=k)

    def _store(self) -> RunStore:
        return RunStore.open(self._place, grading=self.grading)

    @cached_property
    def results(self) -> Results:
        """All findings as records: metrics, strata, stages, frontier, paired differences, plan and provenance.

        Raises `MullError` where the run holds no response yet.
        """
        with self._store() as store:
            return results(store, self.k)

    @property
    def table(self) -> Table:
        """One row per setting with every metric, of several benchmarks the average first and then each; ● marks the
        frontier."""
        return self.results.table

    @property
    def metrics(self) -> polars.DataFrame:
        """One row per setting. Shares are fractions 0–1, tokens are per response; `…_error` is one standard error,
        clustered by question. A run of several benchmarks has such rows for each and for their average: `benchmark`
        says which."""
        return self.table.frame()

    @property
    def strata(self) -> polars.DataFrame | None:
        """The same by difficulty, in the column `stratum`; None where the questions have one stratum only."""
        import polars

        each = self.results.parts.values() or [self.results]
        frames = [metrics_table(own.benchmark, own.strata, None).frame() for own in each if own.strata]
        return polars.concat(frames) if frames else None

    @property
    def frontier(self) -> polars.DataFrame:
        """The rows of `metrics` that no other one beats on both accuracy and tokens, by tokens; of several benchmarks
        those of the average."""
        import polars

        best = [point.setting for point in self.results.frontier.points]
        found = self.metrics.filter(polars.col("setting").is_in(best)).sort("tokens")
        return found.filter(benchmark=AVERAGE) if self.results.parts else found

    @property
    def stages(self) -> Stages | None:
        """Where along λ thinking sets in; None for a run without λ."""
        return self.results.stages

    @property
    def differences(self) -> polars.DataFrame:
        """Each setting less the highest λ (of a study: less its first setting), paired by question, with 95 % intervals
        and p-values that are corrected for their number."""
        found = self.results
        return differences_table(found.to_last, found.metrics, complete=found.complete).frame()

    @property
    def samples(self) -> polars.LazyFrame:
        """Every response with its text and grade, one row each. Lazy, because the texts of a run may be larger than
        memory: `run.samples.filter(…).collect()` reads what it needs."""
        from mull.runs.frames import lazy_frame

        with self._store() as store:
            return lazy_frame(store)

    @property
    def words(self) -> str:
        """What the run shows, in sentences."""
        return self.results.words

    @property
    def figure(self) -> Figure:
        """Accuracy, Think #R and tokens over λ; of a study its accuracies over tokens. An Altair chart."""
        from mull.reports.figures import charts

        found = self.results
        if found.sweep:
            return charts.stages_figure(found.metrics, found.stages)
        return charts.frontier_figure(found.metrics, found.frontier)

    def choose(
        self,
        goal: Goal | None = None,
        *,
        budget: float | None = None,
        quantile: float | None = None,
        min_accuracy: float | None = None,
        weights: Mapping[str, float] | None = None,
    ) -> Choice:
        """The most accurate setting within a `budget` of tokens per response (on average, or in the share `quantile` of
        responses), or the one with the fewest tokens that is right in at least `min_accuracy` (0–1). Of several
        benchmarks accuracy and tokens are their means by `weights`, as in `{"gsm8k": 2}`; others weigh 1.

        Only finished settings are chosen from, on the questions that all of them were asked. Raises `MullError` for
        neither or both of budget and min_accuracy, and for a run without responses.
        """
        goal = goal or Goal(budget=budget, quantile=quantile, min_accuracy=min_accuracy, weights=weights)
        with self._store() as store:
            samples = store.samples(texts=False)
            planned, k, under_way = len(store.questions), store.plan["k"], store.under_way
            benchmarks = benchmarks_of(store.plan)
        notes = []
        if benchmarks:
            every = of_every_benchmark(samples, benchmarks)
            if samples and not every:
                what = f"no setting of {self.folder} has responses to each of {', '.join(benchmarks)} yet"
                raise MullError(what, "let the sweep go on")
            kept = {sample.setting for sample in every}
            lacking = dict.fromkeys(sample.setting for sample in samples if sample.setting not in kept)
            notes += [f"without a benchmark so far, so left out: {', '.join(lacking)}"] if lacking else []
            samples = every
        found = comparable(samples, planned, k, under_way)
        if len(found.left_out) == len({sample.setting for sample in samples}):
            notes.append("no λ is finished: short answers come first, so the figures may change")
        elif found.left_out:
            notes.append(f"not finished, so left out: λ = {', '.join(found.left_out)}")
        if found.samples and found.questions < planned:
            notes.append(f"on the {found.questions} of {counted(planned, 'question')} that all λ were asked")
        return Choice(choose(found.samples, goal), found.samples, notes=notes)

    def report(self, out: str | Path | None = None, *, overlay: bool = True) -> Path:
        """Write the page with its figures and tables into the folder `out` (None: `report` in the run's), and return
        the page. `overlay`: show what was published of Qwen3-4B on the same benchmark.

        Raises `MullError` where the run holds no response yet, or the folder cannot be written.
        """
        from mull.reports.build import write_report

        default = f"report-{self.grading}" if self.grading else "report"
        folder = self._place / default if out is None else Path(out)
        with self._store() as store:
            return write_report(store, folder, k=self.k, overlay=overlay)[0]

    def push(
        self,
        to: str,
        lam: float,
        *,
        out: str | Path | None = None,
        private: bool = False,
        dry_run: bool = False,
        instruct: str | Path | None = None,
        thinking: str | Path | None = None,
        allow: Sequence[str] = (),
        quiet: bool = False,
    ) -> Pushed:
        """Merge at a measured λ, show the run's figures on the model card, and upload it to the hub.

        The card has them as the hub's evaluation results, and beside those of all λ in its text. A merge of the same
        inputs that is in `out` already is taken as it is. Everything is checked before the first byte is written.

        Args:
            to: `user/name` on the hub, created if it is not there; `{lambda}` in it stands for λ.
            out: folder of the checkpoint, which stays there. None: `model-λ` in the run's folder.
            private: create a private repository.
            dry_run: upload nothing.
            instruct: where the end lies now, if it is not where the run found it. It must be the same; so `thinking`.
            allow: refusals to overrule, as in `mull.merge`.
            quiet: show no bar.

        Raises:
            MullError: the run is not finished or has no such λ, the checkpoints are others, the hub's token is missing,
                the folder holds something else, or the hub refuses.
        """
        from mull.api.pushing import push

        place = None if out is None else Path(out)
        return push(
            self, to, lam, out=place, private=private, dry_run=dry_run, instruct=instruct, thinking=thinking,
            allow=allow, observer=observer_of(quiet),
        )  # fmt: skip

    @cached_property
    def under_way(self) -> list[str] | None:
        """The settings of a race's step that is not finished; None where a sweep sampled last."""
        with self._store() as store:
            return store.under_way

    def _lines(self) -> tuple[str, list[str]]:
        found = self.results
        head = f"{found.title}: {found.benchmark}, {counted(len(found.questions), 'question')} × k = {found.plan['k']}"
        if not found.complete:
            head += f"; incomplete: {len(found.samples):,} of {counted(found.planned, 'response')}"
        stages = stages_text(found.stages).splitlines() if found.stages and found.sweep else []
        return head, [*stages, found.words]

    def __repr__(self) -> str:
        if self._empty:
            return f"Run in {self.folder}: no response yet"
        head, lines = self._lines()
        return "\n".join([f"Run in {self.folder}: {head}", "", table_text(self.table.select(*BRIEF)), "", *lines])

    def _repr_html_(self) -> str:
        if self._empty:
            return paragraphs([repr(self)])
        head, lines = self._lines()
        table = table_html(self.table.select(*BRIEF))
        return f"{paragraphs([head])}{table}{figure_html(self.figure)}{paragraphs(lines)}"

    @cached_property
    def _empty(self) -> bool:
        with self._store() as store:
            return not store.count()
