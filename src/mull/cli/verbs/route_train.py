"""`mull route train`: learn from sweeps to choose λ for each query."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mull.api.progress.bars import item_progress
from mull.api.progress.terminal import Terminal
from mull.cli.options.common import JsonOption, consoles, refuse_unwritable
from mull.cli.options.groups import grouped
from mull.cli.options.routes import RoutePairOptions, row_engine
from mull.cli.rendering.plain import print_json
from mull.cli.rendering.routes import print_head
from mull.errors import MullError


@grouped
def route_train(
    runs: Annotated[list[Path], typer.Argument(help="Run folders of `mull sweep` over λ.", metavar="RUN…")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The head's file.", metavar="FILE")] = Path(
        "head.safetensors"
    ),
    epsilon: Annotated[
        float | None,
        typer.Option(help="Accuracies nearer than this count as equal (default: 1/samples).", min=0, max=1),
    ] = None,
    delta: Annotated[
        float, typer.Option(help="A response is shorter if it has this share fewer tokens.", min=0, max=0.9)
    ] = 0.05,
    beta: Annotated[
        float | None,
        typer.Option(
            help="Prefer by utility, accuracy − β·length/length of Thinking, in place of --epsilon and --delta: the "
            "smaller, the more accuracy counts.",
            min=0,
        ),
    ] = None,
    json: JsonOption = False,
    *,
    pair: RoutePairOptions,
) -> None:
    """Train estimators of λ on the records of sweeps: a head for one pair, in minutes on a CPU.

    Four are learned or fitted: `pref` ranks the λ of the sweep for a query by Instruct's hidden state at its end
    (accuracy first, then brevity); `router` chooses between the ends; `length` predicts the thinking tokens; `conf`
    gets its constants from the questions without their answers. A fifth of the questions is held out to judge them. The
    head is bound to the pair. What follows the DAMI paper is our reconstruction: it could not be read.

    Examples:

    `mull sweep --benchmark tiny --instruct A --thinking B --questions 400 --question-seed 1 --run train`

    `mull route train train --instruct A --thinking B -o head.safetensors`
    """
    from mull.dynamic.probing.local import Query, measure_all
    from mull.dynamic.training.records import read_runs
    from mull.dynamic.training.train import NEEDS, train_head

    stdout, stderr = consoles()
    observer = Terminal(stderr)
    refuse_unwritable("--out", out)
    if out.is_dir():
        raise MullError(f"--out {out} is a folder", f"name a file, as in {out / 'head.safetensors'}")
    records = read_runs(runs)
    opened = pair.open()
    pair.check_hashes(opened, records.pair, str(runs[0]))
    out.parent.mkdir(parents=True, exist_ok=True)
    with observer.busy("loading the checkpoints"):
        engine = row_engine(opened, pair)
    with item_progress("measuring the questions", len(records.texts), stderr) as advance:
        queries = [Query(*each) for each in zip(records.names, records.messages, records.forms, strict=True)]
        signals = measure_all(engine, queries, NEEDS, advance)
    head = train_head(
        records,
        signals,
        records.form,
        epsilon=epsilon,
        delta=delta,
        beta=beta,
        on_part=lambda part: observer.say(f"fitting {part} …"),
    ).save(out)
    if json:
        print_json({"file": str(out), "digest": head.digest, **head.report})
        return
    print_head(head, stdout)
    stdout.print(f"\nhead: {out}\nnext: mull route eval --head {out}", highlight=False, markup=False, soft_wrap=True)
