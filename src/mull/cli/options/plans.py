"""The options of a sampling plan: checkpoints, questions, sampling and computing."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, ClassVar

import typer

from mull.api.plans import checked_plan
from mull.benchmarks import Benchmark
from mull.benchmarks.several import load_benchmarks, names_in, parts_of, token_limits
from mull.checkpoints.pair import Pair
from mull.cli.options.common import AllowOption, Donor, DonorOption, by_benchmark, consoles, count
from mull.cli.options.computing import Arithmetic, ComputingOptions
from mull.cli.options.endpoints import ServerOptions
from mull.cli.rendering.warnings import print_warnings
from mull.engines.base import Sampling
from mull.errors import MullError
from mull.merging.coefficients import Coefficients
from mull.runs.plan import StudyKind, SweepPlan
from mull.runs.sessions.loading import Loader, check_one_lambda_each
from mull.runs.settings import Setting
from mull.thinking import ThinkTags

_EACH = "Of several benchmarks each has its own as"

RunOption = Annotated[
    Path, typer.Option("--run", help="Run folder: new, or an existing run to continue.", metavar="DIR")
]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Print how many responses are missing and what they may cost; sample nothing.")
]


@dataclass(frozen=True, kw_only=True)
class PairOptions:
    """The checkpoints, and the side from which the files other than weights are taken."""

    PANEL: ClassVar[str] = "Checkpoints"

    instruct: Annotated[
        str | None, typer.Option(help="Instruct checkpoint: a folder or a hub id.", metavar="MODEL")
    ] = None
    thinking: Annotated[
        str | None, typer.Option(help="Thinking checkpoint: a folder or a hub id.", metavar="MODEL")
    ] = None
    donor: DonorOption = Donor.thinking
    allow: AllowOption = None

    def open(self, remedy: str = "give both checkpoints") -> Pair:
        """The checked pair; prints its warnings. Raises `MullError` if it cannot be mixed."""
        if self.instruct is None or self.thinking is None:
            raise MullError(f"{'--instruct' if self.instruct is None else '--thinking'} is missing", remedy)
        pair = Pair.open(self.instruct, self.thinking, donor=self.donor.value)
        _, stderr = consoles()
        # Responses are sampled as the options say, whatever the generation configs recommend.
        warnings = [each for each in pair.check(self.allow or ()) if each.code != "generation-config"]
        print_warnings(warnings, stderr)
        stderr.print(f"donor of template, tokenizer and generation config: {pair.donor_side}", highlight=False)
        return pair


@dataclass(frozen=True, kw_only=True)
class BenchmarkOptions:
    """The questions, and how answers are graded."""

    PANEL: ClassVar[str] = "Questions"

    benchmark: Annotated[
        str,
        typer.Option(
            help="Benchmark (see `mull benchmarks`), or a file of your own; several comma-separated, as in "
            "gsm8k,math500.",
            metavar="NAMES",
        ),
    ] = "tiny"
    data: Annotated[
        Path | None,
        typer.Option(help=f"The benchmark's data file (default: from the hub). {_EACH} NAME=FILE.", metavar="FILE"),
    ] = None
    grader: Annotated[
        str | None,
        typer.Option(
            help="Grader (see `mull benchmarks`; default: the benchmark's own), or FILE.py:FUNCTION, a function "
            f"(answer, gold) → bool of your own, which is run. {_EACH} NAME=GRADER.",
            metavar="NAME",
        ),
    ] = None
    questions: Annotated[
        str | None,
        typer.Option(help="Ask only this many questions; of several benchmarks of each, or NAME=N.", metavar="N"),
    ] = None
    question_seed: Annotated[int, typer.Option(help="Seed of the questions, for benchmarks that generate them.")] = 0
    prompt: Annotated[
        Path | None,
        typer.Option(
            help="Ask with the text of this file, in which {question} stands for the question and {options} for its "
            "options (default: the benchmark's own prompt).",
            metavar="FILE",
        ),
    ] = None
    system: Annotated[
        str | None,
        typer.Option(help="System message, in place of the benchmark's own; '' for none.", metavar="TEXT"),
    ] = None

    def load(self) -> Benchmark:
        """The benchmark. Raises `MullError` for an unknown benchmark or grader, or data or a prompt that cannot be
        read."""
        names = names_in(self.benchmark)
        data = None if self.data is None else str(self.data)
        return load_benchmarks(
            names,
            questions=by_benchmark("--questions", self.questions, count, several=len(names) > 1),
            seed=self.question_seed,
            data=by_benchmark("--data", data, Path, several=len(names) > 1),
            grader=by_benchmark("--grader", self.grader, str, several=len(names) > 1),
            prompt=self.prompt,
            system=self.system,
        )


@dataclass(frozen=True, kw_only=True)
class DrawingOptions:
    """How tokens are drawn, and how often."""

    PANEL: ClassVar[str] = "Sampling"

    k: Annotated[int, typer.Option("-k", help="Samples per question and setting.", min=1)] = 8
    seed: Annotated[int, typer.Option(help="Seed of the sampling.")] = 0
    temperature: Annotated[float, typer.Option(help="0 = greedy.")] = 0.6
    top_p: Annotated[
        float, typer.Option("--top-p", help="Draw from the likeliest tokens that together have this probability.")
    ] = 0.95
    top_k: Annotated[int, typer.Option("--top-k", help="Draw from this many likeliest tokens; 0 = no limit.")] = 20
    max_tokens: Annotated[
        int | None,
        typer.Option(help="Most tokens per response (default: the benchmark's limit).", min=1),
    ] = None

    def limits(self, benchmark: Benchmark) -> tuple[int, dict[str, int]]:
        return token_limits(benchmark, self.max_tokens)

    def sampling(self, benchmark: Benchmark) -> Sampling:
        """The sampling parameters. Raises `MullError` for values outside their range."""
        try:
            return Sampling(
                temperature=self.temperature,
                top_p=self.top_p,
                top_k=self.top_k,
                max_tokens=self.limits(benchmark)[0],
            )
        except ValueError as error:
            said = re.sub("^temperature|top_[pk]", lambda name: f"--{name[0].replace('_', '-')}", str(error))
            raise MullError(said, "the paper's are 0.6, 0.95 and 20, the defaults") from None


@dataclass(frozen=True, kw_only=True)
class SamplingOptions(DrawingOptions):
    """The same with a token limit for each benchmark, thinking budgets and the delimiters of thoughts."""

    max_tokens: Annotated[  # type: ignore[assignment]
        str | None,
        typer.Option(
            help="Most tokens per response (default: the benchmark's limit); of several benchmarks also NAME=N.",
            metavar="N",
        ),
    ] = None
    thinking_budget: Annotated[
        int | None,
        typer.Option(
            help="Close a thought after this many tokens; the answer goes on from there (default: no limit).", min=0
        ),
    ] = None
    budget_message: Annotated[
        str | None,
        typer.Option(
            help="What to write before the closing tag where a budget ends a thought; not counted. \\n is a new line.",
            metavar="TEXT",
        ),
    ] = None
    think_tags: Annotated[
        list[str] | None,
        typer.Option(
            help="Opening and closing delimiter of a thought, as in '[THINK],[/THINK]' (default: those that template "
            "and tokenizer name, see `mull inspect`; from servers all known ones). Repeatable.",
            metavar="OPEN,CLOSE",
        ),
    ] = None

    def tags(self) -> list[ThinkTags] | None:
        """The delimiters that are given. Raises `MullError` for what is no pair of two."""
        return [_tags(text) for text in self.think_tags] if self.think_tags else None

    @property
    def message(self) -> str | None:
        """The budget message, with its line breaks."""
        return self.budget_message.replace("\\n", "\n") if self.budget_message else None

    def limits(self, benchmark: Benchmark) -> tuple[int, dict[str, int]]:
        """See `token_limits`. Raises `MullError` for what is no number, and for benchmarks that are not asked."""
        several = len(parts_of(benchmark)) > 1
        return token_limits(benchmark, by_benchmark("--max-tokens", self.max_tokens, count, several=several))

    def sampling(self, benchmark: Benchmark) -> Sampling:
        message = None if self.thinking_budget is None else self.message
        return replace(super().sampling(benchmark), thinking_budget=self.thinking_budget, budget_message=message)


@dataclass(frozen=True, kw_only=True)
class PlanOptions:
    """All options of a plan except its settings."""

    pair: PairOptions
    questions: BenchmarkOptions
    sampling: SamplingOptions
    computing: ComputingOptions

    def local(
        self,
        settings_of: Callable[[Pair, Sampling], Sequence[Setting]],
        *,
        study: StudyKind | None = None,
        others: Mapping[str, str] | None = None,
        remedy: str = "give both checkpoints",
    ) -> tuple[SweepPlan, Loader]:
        """A plan with the settings of `settings_of`, run in this process. `others`: further checkpoints by role.

        Raises:
            MullError: the checkpoints cannot be mixed, or a setting does not fit them.
        """
        benchmark = self.questions.load()
        sampling = self.sampling.sampling(benchmark)
        pair = self.pair.open(remedy)
        settings = settings_of(pair, sampling)
        limited = [
            each for each in (sampling, *(s.sampling for s in settings)) if each and each.thinking_budget is not None
        ]
        if self.sampling.message and not limited:
            raise MullError("--budget-message is said where a thinking budget ends", "Give --thinking-budget, too")
        plan = checked_plan(
            pair,
            settings,
            benchmark,
            self.sampling.k,
            sampling,
            seed=self.sampling.seed,
            others=others,
            study=study,
            think_tags=self.sampling.tags(),
            limits=self.sampling.limits(benchmark)[1],
        )
        if self.computing.arithmetic == Arithmetic.unrounded:
            check_one_lambda_each(plan.settings, "--arithmetic unrounded")
        loader = self.computing.loader(strict=self.sampling.max_tokens is not None)
        return plan, loader

    def along_lambda(
        self,
        lambdas: str | None,
        grid: str,
        weights_of: Callable[[str], list[Coefficients]],
        servers: ServerOptions,
        given: Mapping[str, str],
        *,
        extrapolate: bool = False,
        budgets: Sequence[int] = (),
    ) -> tuple[SweepPlan, Loader]:
        """A plan for the λ in `lambdas` or a file, else in `grid`; answered by servers if any are named.

        `budgets`: thinking budgets of further settings, the Thinking end under each. `given`: see `given_options`;
        options that would have no effect are refused.

        Raises:
            MullError: options that contradict each other, or as `local`.
        """
        if not servers.given:
            named = [given[name] for name in _SERVER_OPTIONS if name in given]
            if named:
                raise MullError(
                    f"{', '.join(named)} is for servers, and none is named",
                    "give --endpoint and --model-map, or leave it out",
                )
            weights = weights_of(grid if lambdas is None else lambdas)
            remedy = "give both checkpoints, or --endpoint and --model-map"

            def settings_of(_: Pair, sampling: Sampling) -> list[Setting]:
                limited = [Setting.budgeted(n, sampling, self.sampling.message) for n in budgets]
                return [*(Setting.of(each) for each in weights), *limited]

            return self.local(settings_of, study=StudyKind.sweep if budgets else None, remedy=remedy)
        named = [given[name] for name in _CHECKPOINT_OPTIONS if name in given]
        if named:
            raise MullError(
                f"{', '.join(named)} cannot be had from servers", "leave it out, or --endpoint and --model-map"
            )
        if budgets:
            raise MullError(
                "--budgeted-thinking needs checkpoints here", "give servers --thinking-budget, in a run of its own"
            )
        if self.sampling.budget_message:
            raise MullError(
                "--budget-message cannot be had from servers, which are sent thinking_token_budget only",
                "Leave it out, or sample from checkpoints",
            )
        endpoints = servers.endpoints(lambdas, grid=grid, extrapolate=extrapolate)
        benchmark = self.questions.load()
        settings = [Setting.of(Coefficients.scalar(lam, extrapolate=extrapolate)) for lam in endpoints.lambdas]
        sampling = self.sampling.sampling(benchmark)
        loader = servers.loader(endpoints)
        sampling_options = (self.sampling.k, sampling, self.sampling.seed, "remote")
        own = {"endpoints": endpoints, "think_tags": self.sampling.tags(), "limits": self.sampling.limits(benchmark)[1]}
        return SweepPlan(None, settings, benchmark, *sampling_options, **own), loader


def _tags(text: str) -> ThinkTags:
    parts = [part.strip() for part in text.split(",")]
    if len(parts) != 2 or not all(parts) or parts[0] == parts[1]:
        raise MullError(f"--think-tags {text!r} is no pair of delimiters", "give two that differ, as in '<a>,</a>'")
    return ThinkTags(*parts)


_SERVER_OPTIONS = (
    "key_variable", "concurrency", "per_minute", "retries", "timeout", "stream", "max_completion_tokens", "omit",
)  # fmt: skip
_CHECKPOINT_OPTIONS = (
    "instruct", "thinking", "layers", "modules", "allow", "donor", "device", "dtype", "ends", "batch_size",
    "arithmetic", "engine", "engine_option",
    "trust_remote_code",
)  # fmt: skip
