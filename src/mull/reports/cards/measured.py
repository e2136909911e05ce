"""What a run measured of a merged checkpoint, for its model card: the hub's evaluation results, and a table of all λ.

The results are the `model-index` of the card's header (`huggingface_hub.EvalResult`). Values are fractions 0–1 and
tokens, with 95 % intervals in the name and in the arguments of each metric.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mull.analysis.comparable import comparable, coverage
from mull.analysis.metrics import Estimate, SettingMetrics, interval
from mull.benchmarks.catalog import SPECS
from mull.checkpoints.fingerprint import fingerprint
from mull.checkpoints.pair import Pair
from mull.engines.local.arithmetic import is_unrounded
from mull.errors import MullError
from mull.escaping import markdown, visible
from mull.merging.methods.mi import Mi
from mull.merging.streaming.plan import MergePlan
from mull.reports import renderers
from mull.reports.paper import commands
from mull.reports.paper.runs import Run
from mull.reports.results import Results, results
from mull.reports.table import Cell, Column, Table
from mull.reports.tables import BRIEF, metrics_table, scores_table
from mull.runs.plan import StudyKind
from mull.runs.store import RunStore
from mull.words import counted

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

_TYPES = {
    "mean_at_k": "accuracy",
    "pass_at_k": "pass@k",
    "vote_at_k": "majority vote",
    "tokens": "tokens per response",
    "think_ratio": "share of responses that think",
    "truncation": "share of responses cut off",
}
"""Column → type of the metric, where it is not the column's head."""


@dataclass(frozen=True)
class Measured:
    """A λ of a finished run."""

    found: Results
    chosen: SettingMetrics

    @classmethod
    def at(cls, found: Results, lam: float, under_way: Collection[str] | None) -> Measured:
        """What a run measured of λ. `under_way`: see `RunStore.under_way`.

        Raises:
            MullError: the run is not finished, has no such λ, or does not know its checkpoints.
        """
        lams = [m for m in found.metrics if m.lam is not None]
        if not lams:
            raise MullError(f"{found.folder} compares other weights than one λ", "give the run of a mull sweep")
        chosen = next((m for m in lams if m.lam is not None and math.isclose(m.lam, lam, abs_tol=1e-9)), None)
        if chosen is None:
            has = ", ".join(m.setting for m in lams)
            raise MullError(f"λ = {lam:g} was not measured in {found.folder}", f"it has {has}")
        if "instruct" not in found.plan:
            raise MullError(f"servers answered the run in {found.folder}: it knows no checkpoints", "sweep those")
        state = f"{len(found.samples):,} of {counted(found.planned, 'response')}"
        if not found.complete and under_way is None:
            raise MullError(f"the run in {found.folder} is not finished: {state}", "the command that began it ends it")
        kept = comparable(found.samples, len(found.questions), found.plan["k"], under_way)
        if chosen.setting in kept.left_out:
            raise MullError(f"λ = {lam:g} is not finished in {found.folder} ({state})", "sample it first")
        return cls(found, chosen)

    def check(self, plan: MergePlan) -> None:
        """Raise `MullError` unless the merge makes the very model that the run measured."""
        _check_kind(plan)
        record = self.found.plan
        for role, model in plan.group.by_role.items():
            if record.get(role) != fingerprint(model):
                what = f"{model.name} is not the {role.capitalize()} checkpoint of the run in {self.found.folder}"
                raise MullError(what, "give that one, or another run")
        if record["donor"] != plan.group.donor_role:
            raise MullError(f"the donor of the run is {record['donor']}", f"give --donor {record['donor']}")
        if plan.dtype is not None:
            raise MullError("the run measured weights of the donor's dtype", "leave the dtype out, or the run")

    def index(self, name: str) -> list[dict[str, Any]]:
        """The `model-index` of a model called `name`."""
        from huggingface_hub.repocard_data import eval_results_to_model_index  # takes 0.2 s to import

        return eval_results_to_model_index(visible(name), self.eval_results())

    @property
    def parts(self) -> list[Measured]:
        """This λ on each benchmark: a result of the hub is one benchmark's."""
        parts = self.found.parts.values()
        chosen = [next(m for m in part.metrics if m.setting == self.chosen.setting) for part in parts]
        return [Measured(*both) for both in zip(parts, chosen, strict=True)] or [self]

    def eval_results(self) -> list[EvalResult]:
        """Every metric of the chosen λ that is defined, on each benchmark."""
        return [metric for part in self.parts for metric in part._eval_results()]

    def _eval_results(self) -> list[EvalResult]:
        from huggingface_hub import EvalResult

        dataset = _dataset(self.found, self.chosen)
        made = []
        for table in self._tables():
            row = next(row for row in table.rows if row.key == self.chosen.setting)
            for column, cell in zip(table.columns, row.cells, strict=True):
                if not isinstance(cell, Cell) or math.isnan(cell.value):
                    continue
                limits = {} if math.isnan(cell.low) else {"low": round(cell.low, 6), "high": round(cell.high, 6)}
                shown = (
                    ", 95 % interval {} to {}".format(*(f"{each:.4g}" for each in limits.values())) if limits else ""
                )
                metric = EvalResult(
                    task_type="text-generation",
                    task_name="Text generation",
                    **dataset,
                    metric_type=_TYPES.get(column.key, column.head),
                    metric_name=f"{column.head}{shown}",
                    metric_value=round(cell.value, 6),
                    metric_args={"confidence": 0.95, **limits} if limits else None,
                )
                made.append(metric)
        return made

    def lines(self, plan: MergePlan) -> list[str]:
        """The section of the card's body: what was measured at every λ, how, and by which command."""
        found = self.found
        names = {role: model.published_name for role, model in plan.group.by_role.items()}
        rows = "\n".join(f"| {name} | {markdown(value)} |" for name, value in self._how())
        tables = "\n".join(renderers.markdown(table) for part in self.parts for table in part._tables())
        text = ["## Measured", "", tables, f"| | |\n|---|---|\n{rows}", ""]
        text += [markdown(found.words), ""] if found.sweep else []
        text += [markdown(_sentence(coverage(found.samples))), ""] if coverage(found.samples) else []
        text += ["If λ was chosen by this table, expect slightly less on other questions.", ""]
        return ["", *text, "The same again:", "", "```sh", *self._commands(names), "```"]

    def _tables(self) -> list[Table]:
        """Of all λ, with intervals in place of standard errors."""
        lams = [m for m in self.found.metrics if m.lam is not None]
        samples = [sample for sample in self.found.samples if sample.lam is not None]
        metrics = metrics_table(self.found.benchmark, {"": lams}, None)
        if self.found.part:
            metrics = replace(metrics, title=f"{_dataset(self.found, self.chosen)['dataset_name']}: every λ")
        uneven = len({(m.questions, m.samples) for m in lams}) > 1
        made = [metrics.select(*BRIEF, *(["samples"] if uneven else []))]
        scores = scores_table(samples, lams)
        if scores:  # a mean over the responses that ended by themselves is of fewer questions
            made.append(scores.select(*(each.key for each in scores.columns if each.key != "completed_only")))
        asked = {m.setting: m.questions for m in lams}
        return [_with_intervals(table.shown, asked, self.chosen.setting) for table in made if table.columns]

    def _how(self) -> list[tuple[str, str]]:
        """How it was measured, by name."""
        found, plan = self.found, self.found.plan
        sampling = plan["sampling"]
        drawn = [
            f"temperature {sampling['temperature']:g}",
            f"top-p {sampling['top_p']:g}",
            f"top-k {sampling['top_k']}",
            f"seed {plan['seed']}",
        ]
        if "thinking_budget" in sampling:
            drawn.append(f"thoughts closed after {sampling['thinking_budget']:,} tokens")
        engine = ", ".join(plan["engine"].split("/"))
        if is_unrounded(plan["engine"]):
            engine += ": the weights of λ were not rounded to the dtype of this checkpoint"
        return [
            *(row for part in self.parts for row in part._asked()),
            ("sampling", ", ".join(drawn)),
            ("engine", engine),
            ("measured by", f"mull {found.provenance['mull']}, begun {str(found.provenance.get('started', ''))[:10]}"),
        ]

    def _asked(self) -> list[tuple[str, str]]:
        """The benchmark, and how much of it was asked."""
        dataset, plan = _dataset(self.found, self.chosen), self.found.plan
        source = f" ({dataset['dataset_type']} at {dataset['dataset_revision']})" if dataset["dataset_revision"] else ""
        grader = ", ".join(f"{key} {value}" for key, value in (plan["benchmark"].get("grader") or {}).items())
        return [
            ("benchmark", f"{dataset['dataset_name']}{source}"),
            ("questions × samples", f"{len(self.found.questions):,} × {plan['k']}"),
            ("tokens of a response", f"{plan['sampling']['max_tokens']:,} at most"),
            *([("prompt", "another than the benchmark's own")] if any(commands.own_words(plan["benchmark"])) else []),
            *([("grader", grader)] if grader else []),
        ]

    def _commands(self, names: dict[str, str]) -> list[str]:
        """The commands that measure and merge again. Local paths are shortened to their last part."""
        found = self.found
        others = {key: _short(found.provenance[key]) for key in ("data", "base", "hybrid") if key in found.provenance}
        provenance = {**found.provenance, **others, **names}
        kind = StudyKind(found.plan["study"])
        if found.parts:
            provenance.pop("data", None)  # whose file it was is not on record
        runs = [
            Run(
                folder=Path("run"), kind=kind, benchmark=part.found.benchmark, plan=part.found.plan,
                provenance=provenance, questions=len(part.found.questions), samples=part.found.samples,
            )
            for part in self.parts
        ]  # fmt: skip
        known = kind in (StudyKind.sweep, StudyKind.compare)
        donor = () if found.plan["donor"] == "thinking" else ("--donor", found.plan["donor"])
        ends = ("--instruct", names["instruct"], "--thinking", names["thinking"], *donor)
        merge = shlex.join(["mull", "merge", *ends, "--lambda", self.chosen.setting, "-o", "merged"])
        sweep = [commands.command([run], kind, run.benchmark, set(), whole=False) for run in runs] if known else []
        return [visible(line).replace("`", "") for line in (*sweep, merge)]


def of_run(folder: Path, plans: Sequence[MergePlan]) -> list[Measured]:
    """What the run in `folder` measured of each plan's model.

    Raises:
        MullError: there is no such run, it is not finished, or it did not measure this very model.
    """
    for plan in plans:
        _check_kind(plan)
    with RunStore.open(folder) as store:
        found, under_way = results(store), store.under_way
    made = [Measured.at(found, plan.coefficients.default, under_way) for plan in plans]
    for measured, plan in zip(made, plans, strict=True):
        measured.check(plan)
    return made


def _check_kind(plan: MergePlan) -> None:
    plain = isinstance(plan.group, Pair) and plan.method == Mi() and not plan.varying.parameters
    if not plain or not plan.coefficients.is_scalar:
        raise MullError("a run's figures belong to one λ between the ends of a pair", "leave the run out")


def _dataset(found: Results, chosen: SettingMetrics) -> dict[str, Any]:
    """What λ was asked, in the hub's words: the one place where the card takes the benchmark from the run."""
    name, asked = found.benchmark, chosen.questions
    spec, own = SPECS.get(name), bool(found.provenance.get("data"))
    title = spec.title if spec else name
    if spec and asked < spec.questions:
        title += f", {asked:,} of {spec.questions:,} questions"
    return {
        "dataset_type": spec.source.repo if spec else visible(name),
        "dataset_name": visible(title),
        "dataset_revision": spec.source.revision if spec and not own else None,
        "dataset_args": {"questions": asked, "responses": chosen.samples},
    }


def _with_intervals(table: Table, asked: dict[str, int], chosen: str) -> Table:
    """With 95 % intervals in place of standard errors, and a mark at the chosen λ. `asked`: questions by setting."""

    def cell(each: Cell | str, column: Column, questions: int) -> Cell | str:
        if isinstance(each, str) or math.isnan(each.error):
            return each
        low, high = interval(Estimate(each.value, each.error), questions, share=column.scale == 100)
        return replace(each, error=math.nan, low=low, high=high)

    rows = [
        replace(
            row,
            cells=[cell(*both, asked[row.key]) for both in zip(row.cells, table.columns, strict=True)],
            star=row.key == chosen,
        )
        for row in table.rows
    ]
    columns = [replace(column, by_error=False, interval=True) for column in table.columns]
    caption = "95 % intervals by Student's t, clustered by question; ● this model"
    return replace(table, rows=rows, columns=columns, caption=caption)


def _short(name: str) -> str:
    """A hub id, or the last part of a path."""
    return name if name.count("/") == 1 and not Path(name).exists() else Path(name).name


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."
