"""What the verbs of `mull route` share: the pair, which is the built-in one by default, and its engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import typer

from mull.benchmarks import Benchmark, load_benchmark
from mull.checkpoints.pair import Pair
from mull.cli.options.common import token_counts
from mull.cli.options.plans import PairOptions
from mull.engines.base import Sampling
from mull.engines.local.arithmetic import arithmetic
from mull.errors import MullError, nearest
from mull.words import counted

if TYPE_CHECKING:
    from mull.dynamic.base import Estimator
    from mull.dynamic.evaluation.policies import Policy
    from mull.dynamic.evaluation.replay import Recorded
    from mull.dynamic.head import Head
    from mull.engines.local.engine import LocalEngine


@dataclass(frozen=True, kw_only=True)
class RoutePairOptions(PairOptions):
    """Both checkpoints, by default the built-in pair, and where they run."""

    PANEL: ClassVar[str] = "Checkpoints (default: the built-in pair)"

    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 …")] = "auto"
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Run code that ships with the model.")
    ] = False

    def open(self, remedy: str = "give both checkpoints, or neither for the built-in pair") -> Pair:
        if self.instruct is None and self.thinking is None:
            return Pair.built_in()
        return super().open(remedy)

    @staticmethod
    def check_hashes(pair: Pair, recorded: Mapping[str, str], where: str) -> None:
        """Raise `MullError` unless `recorded` are the hashes of this pair."""
        for side, found in pair.fingerprints.items():
            if found != recorded[side]:
                raise MullError(
                    f"{where} was sampled with another {side.capitalize()} than {pair.by_role[side].name}",
                    "give the --instruct and --thinking of that run",
                )


def row_arithmetic(pair: Pair, options: RoutePairOptions) -> str:
    """The name of that engine's arithmetic in plans."""
    kind = options.device
    if kind != "cpu":
        from mull.engines.local.engine import device_of

        kind = device_of(kind).type
    return arithmetic(pair.donor.folder, kind, unrounded=True)


def row_engine(pair: Pair, options: RoutePairOptions) -> LocalEngine:
    """An engine whose rows have a λ each."""
    from mull.engines.local.opening import open_rows

    return open_rows(pair, device=options.device, trust_remote_code=options.trust_remote_code)


HeadOption = Annotated[
    Path | None, typer.Option("--head", help="Trained estimators, of `mull route train`.", metavar="FILE")
]


@dataclass(frozen=True, kw_only=True)
class RouteBenchmarkOptions:
    """The questions: one or several benchmarks."""

    PANEL: ClassVar[str] = "Questions"

    benchmark: Annotated[
        str, typer.Option(help="Benchmarks, comma-separated (see `mull benchmarks`).", metavar="NAMES")
    ] = "tiny"
    data: Annotated[
        list[Path] | None,
        typer.Option(help="A data file for each benchmark, in their order (default: from the hub).", metavar="FILE"),
    ] = None
    questions: Annotated[int | None, typer.Option(help="Ask only this many questions of each.", min=1)] = None
    question_seed: Annotated[int, typer.Option(help="Seed of the questions, for benchmarks that generate them.")] = 0

    def load(self) -> list[Benchmark]:
        """The benchmarks. Raises `MullError` for unknown ones, ones that are named twice, and files that do not fit."""
        names = [name.strip() for name in self.benchmark.split(",") if name.strip()]
        if not names or len(set(names)) < len(names):
            what = f"--benchmark {self.benchmark!r} is no list of benchmarks"
            raise MullError(what, "name each once, as in gsm8k,aime24")
        files: list[Path | None] = list(self.data or [])
        if len(files) not in (0, len(names)):
            what = f"{counted(len(files), 'file')} for {counted(len(names), 'benchmark')}"
            raise MullError(what, "give --data once for each, or never")
        return [
            load_benchmark(name, questions=self.questions, seed=self.question_seed, data=file)
            for name, file in zip(names, files or [None] * len(names), strict=True)
        ]


def policies_of(
    head: Head | None,
    estimators: str | None,
    lams: Sequence[float],
    budgets: str | None,
    sampling: Sampling,
    *,
    early_exit: tuple[int, float] | None,
    brief: bool,
) -> list[Policy]:
    """What is compared, in the order in which it is sampled.

    Raises `MullError` for a grid without its ends, an unknown estimator, and what is no list of budgets.
    """
    from mull.dynamic.evaluation.policies import Policy

    if 0.0 not in lams or 1.0 not in lams:
        raise MullError("the static λ lack an end of the pair", "give --lambdas with 0 and 1 among them")
    found = [Policy.static(lam) for lam in lams]
    found += _routed(head, estimators)
    found.append(Policy.oracle())
    found += [Policy.budgeted(tokens, sampling) for tokens in token_counts("--budgets", budgets)]
    if brief:
        found.append(Policy.brief())
    if early_exit:
        found.append(Policy.exiting(*early_exit))
    return found


def replayed_policies(head: Head | None, estimators: str | None, runs: Sequence[Recorded]) -> list[Policy]:
    """What is compared on records: their λ and budgets, the estimators, lots, and an oracle where questions have two
    samples. Raises `MullError` for an unknown estimator."""
    from mull.dynamic.evaluation.policies import Policy
    from mull.dynamic.evaluation.replay import common

    lams, budgets = common(runs)
    found = [Policy.static(lam) for lam in lams]
    found += _routed(head, estimators)
    if all(run.has_halves for run in runs):
        found.append(Policy.oracle())
    return [*found, *(Policy(label=label, kind="budget") for label in budgets)]


def _routed(head: Head | None, estimators: str | None) -> list[Policy]:
    """The estimators called so, by default all that there are, and the same λ by lot."""
    from mull.dynamic.estimators.conf import Confidence
    from mull.dynamic.evaluation.policies import Policy

    known: dict[str, Estimator] = {each.name: each for each in (head.estimators() if head else [Confidence()])}
    chosen = list(known) if estimators is None else [name.strip() for name in estimators.split(",")]
    for name in chosen:
        if name not in known:
            hint = nearest(name, known) if head else "without --head there is conf alone"
            raise MullError(f"no estimator {name!r}", hint)
    return [*(Policy.estimated(known[name]) for name in chosen), *map(Policy.random, chosen)]


_FOR_REPLAY = {"replay", "out", "head", "estimators", "sensitivity", "prefill_weight", "report", "json"}
_PAIR = {"instruct", "thinking", "donor", "allow", "device", "trust_remote_code"}


def refuse_beside_replay(given: Mapping[str, str]) -> None:
    """Raise `MullError` for an option that decides what is sampled. `given`: see `given_options`."""
    wrong = next((option for name, option in given.items() if name not in _FOR_REPLAY | _PAIR), None)
    if wrong is not None:
        why = "its questions, λ, budgets and samples are those of the runs"
        raise MullError(f"{wrong} does not go with --replay: no response is sampled", f"leave it out; {why}")
