"""`mull choose`: which λ, for a budget of tokens or a floor of accuracy; from a run, or from few samples of its own."""

from __future__ import annotations

import json as jsonlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mull.cli.options import (
    AllowOption,
    BatchSizeOption,
    DataOption,
    DeviceOption,
    Donor,
    DonorOption,
    GraderOption,
    QuestionSeedOption,
    QuestionsOption,
    SeedOption,
    TemperatureOption,
    TopKOption,
    TopPOption,
    TrustOption,
    consoles,
)
from mull.errors import MullError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console
    from rich.progress import Progress, TaskID

    from mull.study.choose import Choice
    from mull.study.options import Goal
    from mull.study.race import Outcome, Step
    from mull.study.records import Sample
    from mull.sweeps.plan import SweepPlan


def choose(
    folder: Annotated[Path | None, typer.Argument(help="A run to choose from.", metavar="[DIR]")] = None,
    max_tokens: Annotated[float | None, typer.Option(help="Budget of tokens per response, on average.")] = None,
    quantile: Annotated[
        float | None, typer.Option(help="The budget holds for this share of responses instead, as in 0.95.")
    ] = None,
    min_accuracy: Annotated[
        float | None, typer.Option(help="Instead of a budget: least Mean@k, 0 to 1; fewest tokens are chosen.")
    ] = None,
    instruct: Annotated[
        str | None, typer.Option("--instruct", help="Without a run: the Instruct checkpoint.", metavar="MODEL")
    ] = None,
    thinking: Annotated[
        str | None, typer.Option("--thinking", help="Without a run: the Thinking checkpoint.", metavar="MODEL")
    ] = None,
    run: Annotated[
        Path | None,
        typer.Option("--run", help="Without a run: folder for its samples, made or continued.", metavar="DIR"),
    ] = None,
    benchmark: Annotated[str, typer.Option(help="Benchmark, as in `mull sweep`.", metavar="NAME")] = "tiny",
    data: DataOption = None,
    grader: GraderOption = None,
    lambdas: Annotated[str, typer.Option(help="λ to choose from.", metavar="GRID")] = "0:1:0.05",
    k: Annotated[int, typer.Option("-k", help="Most samples per question and λ.", min=1)] = 8,
    questions: QuestionsOption = None,
    question_seed: QuestionSeedOption = 0,
    seed: SeedOption = 0,
    temperature: TemperatureOption = 0.6,
    top_p: TopPOption = 0.95,
    top_k: TopKOption = 20,
    limit: Annotated[
        int | None, typer.Option(help="Where a response is cut off, tokens; the benchmark's limit by default.", min=1)
    ] = None,
    donor: DonorOption = Donor.thinking,
    device: DeviceOption = "auto",
    batch_size: BatchSizeOption = None,
    trust_remote_code: TrustOption = False,
    allow: AllowOption = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Choose λ: the most accurate within a budget of tokens, or the cheapest above a floor of accuracy.

    From a run, finished or not: `mull choose DIR --max-tokens 60`. Only measured λ are chosen from, since tokens are
    not monotone in λ. Of λ within one standard error of the best the one with fewer tokens is taken.

    Without a run it samples what it needs of a grid, a fraction of a sweep: a few λ round the transition, then a race
    in which the better half is sampled twice as much. A quarter of the questions is kept to report on. After Ctrl-C the
    same command goes on; another goal in the same folder uses what is there.

    Example:

    `mull choose --instruct A --thinking B --benchmark tiny --max-tokens 60 --run chosen`
    """
    from mull.study.options import Goal

    goal = Goal(max_tokens=max_tokens, quantile=quantile, min_accuracy=min_accuracy)
    sampling = {"--instruct": instruct, "--thinking": thinking, "--run": run}
    if folder is not None:
        given = [option for option, value in sampling.items() if value is not None]
        if given:
            raise MullError(
                f"{folder} is a run to choose from, and {given[0]} asks for a new one", "give one of the two"
            )
        _from_run(folder, goal, json=json)
        return
    missing = [option for option, value in sampling.items() if value is None]
    if instruct is None or thinking is None or run is None:
        raise MullError(f"{missing[0]} is missing", "give the folder of a run, or --instruct, --thinking and --run")
    from mull.benchmarks import load_benchmark
    from mull.checkpoints.pair import Pair
    from mull.cli.merge import print_warnings
    from mull.engines.base import Sampling
    from mull.merging.coefficients import Coefficients, parse_lambdas
    from mull.sweeps.plan import SweepPlan
    from mull.sweeps.settings import Setting

    stdout, stderr = consoles()
    chosen = load_benchmark(benchmark, questions=questions, seed=question_seed, data=data, grader=grader)
    try:
        drawn = Sampling(temperature=temperature, top_p=top_p, top_k=top_k, max_tokens=limit or chosen.max_tokens)
    except ValueError as error:
        raise MullError(str(error)) from None
    settings = [Setting.of(Coefficients.scalar(lam)) for lam in parse_lambdas(lambdas)]
    pair = Pair.open(instruct, thinking, donor=donor.value)
    print_warnings(pair.check(allow or ()), stderr)
    with stderr.status("starting torch"):
        from mull.engines.local import arithmetic

        engine = arithmetic(pair.donor.folder, device)
    plan = SweepPlan(pair, settings, chosen, k, drawn, seed, engine)
    outcome = _race(plan, goal, run, device, batch_size, trust_remote_code, stderr, strict=limit is not None)
    _show(outcome.choice, outcome.deciding, stdout, json=json, outcome=outcome)
    if not json:
        share = outcome.asked / outcome.full
        spent = f"{outcome.asked:,} responses, {share:.0%} of the {outcome.full:,} of the whole grid"
        stdout.print(f"\n{spent}; run: {run}", highlight=False, markup=False, soft_wrap=True)
        if outcome.choice.pick is not None:
            command = (
                f"mull merge --instruct {instruct} --thinking {thinking} --lambda {outcome.choice.pick.setting} -o out"
            )
            stdout.print(f"next: {command}", highlight=False, markup=False, soft_wrap=True)


def _from_run(folder: Path, goal: Goal, *, json: bool) -> None:
    from mull.study.choose import choose as choose_from
    from mull.sweeps.store import RunStore

    stdout, stderr = consoles()
    with RunStore.open(folder) as store:
        samples = store.samples(texts=False)
        planned = len(store.questions) * store.plan["k"]
    counts: dict[str, int] = {}
    for sample in samples:
        counts[sample.setting] = counts.get(sample.setting, 0) + 1
    unfinished = [setting for setting, count in counts.items() if count < planned]
    if unfinished and len(unfinished) < len(counts):
        samples = [sample for sample in samples if sample.setting not in unfinished]
        said = f"not finished, so left out: λ = {', '.join(unfinished)}"
        stderr.print(said, highlight=False, markup=False)
    elif unfinished:
        stderr.print("no λ is finished: short answers come first, so the figures may change", highlight=False)
    _show(choose_from(samples, goal), samples, stdout, json=json)


def _show(
    choice: Choice, samples: Sequence[Sample], stdout: Console, *, json: bool, outcome: Outcome | None = None
) -> None:
    from mull.cli.choice_text import as_json, print_choice
    from mull.study.worth import what_is_open

    still = what_is_open(samples, choice)
    if json:
        typer.echo(jsonlib.dumps(as_json(choice, still, outcome), ensure_ascii=False, indent=2))
    else:
        print_choice(choice, still, stdout, outcome)


def _race(
    plan: SweepPlan,
    goal: Goal,
    run: Path,
    device: str,
    batch_size: int | None,
    trust_remote_code: bool,
    stderr: Console,
    *,
    strict: bool,
) -> Outcome:
    from mull.cli.recording import load_engine
    from mull.sweeps.run import Ready, provenance
    from mull.sweeps.search import run_race, start
    from mull.sweeps.store import RunStore

    def make_ready() -> Ready:
        return load_engine(plan, stderr, device, batch_size, trust_remote_code, strict=strict)

    with stderr.status("drawing the questions"):
        racing = start(plan, goal)
    shown = _Shown(stderr)
    with RunStore.record(run, plan, provenance(plan)) as store:
        if store.count():
            stderr.print(f"{store.count():,} responses are on record", highlight=False)
        try:
            return run_race(plan, racing, store, make_ready, shown.step, shown.sample)
        finally:
            shown.stop()


class _Shown:
    """Says what each step of the race is for; on a terminal a bar over its responses, with the time left."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.title, self.total = "", 0
        self.progress: Progress | None = None
        self.task: TaskID | None = None

    def step(self, step: Step, missing: int) -> None:
        self.stop()
        self.title, self.total = step.why, missing
        known = len(step.asks) - missing
        self.console.print(step.why + (f" ({known:,} on record)" if known else ""), highlight=False, markup=False)

    def sample(self, sample: Sample) -> None:
        from mull.cli import interrupt

        interrupt.check()
        if not self.console.is_terminal:
            return
        if self.progress is None:  # not before: loading the weights shows a status of its own
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            columns = (BarColumn(), MofNCompleteColumn(), TextColumn("λ = {task.fields[setting]}, ETA"))
            self.progress = Progress(*columns, TimeRemainingColumn(), console=self.console, transient=True)
            self.progress.start()
            self.task = self.progress.add_task(self.title, total=self.total, setting=sample.setting)
        assert self.task is not None
        self.progress.update(self.task, advance=1, setting=sample.setting)

    def stop(self) -> None:
        if self.progress is not None:
            self.progress.stop()
        self.progress = self.task = None
