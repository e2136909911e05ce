"""`mull geometry`: do representations and loss change continuously between two checkpoints? The pilot study."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from mull.api.progress.terminal import Terminal
from mull.benchmarks import load_benchmark
from mull.checkpoints.pair import Pair
from mull.cli.options.common import AllowOption, Donor, JsonOption, consoles, refuse_unwritable
from mull.cli.rendering.plain import print_json
from mull.cli.rendering.warnings import print_warnings
from mull.errors import MullError
from mull.merging.coefficients import parse_lambdas
from mull.runs.store import RunStore

if TYPE_CHECKING:
    from mull.geometry.prompts import Messages
    from mull.runs.sessions.pilot import Pilot


def geometry(
    instruct: Annotated[
        str | None,
        typer.Option(help="Instruct checkpoint (default: that of --run, else the built-in one).", metavar="MODEL"),
    ] = None,
    thinking: Annotated[
        str | None,
        typer.Option(help="Thinking checkpoint (default: that of --run, else the built-in one).", metavar="MODEL"),
    ] = None,
    prompts: Annotated[
        Path | None,
        typer.Option(
            help="Prompts that both ends answer: one per line, or .jsonl (default: those of --run, else the built-in "
            "pair's problems).",
            metavar="FILE",
        ),
    ] = None,
    run: Annotated[
        Path | None,
        typer.Option(help="Run of `mull sweep`: its responses at λ 0 and 1, and its frontier.", metavar="DIR"),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the page and tables (default: geometry in the folder of --run, else here).", metavar="DIR"
        ),
    ] = None,
    lambdas: Annotated[
        str, typer.Option(help="start:stop:step, or a list as in 0,0.5,1; 0 and 1 are added.", metavar="GRID")
    ] = "0:1:0.1",
    questions: Annotated[int, typer.Option(help="Use at most this many of the questions.", min=2)] = 100,
    max_tokens: Annotated[int, typer.Option(help="Most tokens of each response.", min=4)] = 512,
    seed: Annotated[
        int, typer.Option(help="Seed of the control's shuffling and of the resampling.", min=0, max=2**63 - 1)
    ] = 0,
    donor: Annotated[
        Donor | None,
        typer.Option(help="Side of template and tokenizer (default: that of --run, else thinking)."),
    ] = None,
    allow: AllowOption = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 …")] = "auto",
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Run code that ships with the model.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Measure whether two checkpoints can be interpolated, before any sweep: the pilot study of a pair.

    On responses of both ends: linear CKA, cosine and linearity of hidden states along λ by layer, the loss barrier, and
    σ of the weights, beside a control with shuffled weights. With --run also whether its frontier is monotone and
    concave. Prints a summary; writes a page with heat maps and all tables as CSV.

    Examples:

    `mull geometry`

    `mull geometry --instruct A --thinking B --prompts prompts.jsonl --out geometry`

    `mull geometry --run run`
    """
    lams = sorted({0.0, 1.0, *parse_lambdas(lambdas)})
    if len(lams) < 3:
        raise MullError(f"--lambdas {lambdas} has no λ between the ends", "give one at least, as in 0,0.5,1")
    folder = out or (run / "geometry" if run else Path("geometry"))
    stdout, stderr = consoles()
    with ExitStack() as stack:
        store = stack.enter_context(RunStore.open(run)) if run else None
        refuse_unwritable("--out", folder / "geometry.html")
        asked = _asked(prompts, questions) if prompts or store is None else None
        pair = _pair(instruct, thinking, store, donor)
        print_warnings([each for each in pair.check(allow or ()) if each.code != "generation-config"], stderr)

        # Imported here because torch and transformers are slow to import and the checks above need none.
        with stderr.status("starting torch"):
            from mull.runs.sessions.pilot import Computing, pilot

        computing = Computing(max_tokens=max_tokens, seed=seed, device=device, trust_remote_code=trust_remote_code)
        found = pilot(pair, lams, asked, run=store, questions=questions, computing=computing, observer=Terminal(stderr))
    with stderr.status("drawing the page"):
        from mull.reports.geometry.build import write_geometry

        paths = write_geometry(found, folder)
    if json:
        print_json(_record(found, paths))
        return
    _show(found, stdout)
    stdout.print()
    for path in paths:
        stdout.print(str(path), highlight=False, soft_wrap=True, markup=False)


def _asked(prompts: Path | None, questions: int) -> Mapping[str, Messages]:
    """Name → conversation: the user's prompts, else problems of the built-in benchmark."""
    if prompts is None:
        benchmark = load_benchmark("tiny", questions=questions)
        return {question.id: benchmark.prompt(question) for question in benchmark.questions()}
    from mull.geometry.prompts import read_prompts

    return {f"prompt {i} of {prompts}": messages for i, messages in enumerate(read_prompts(prompts), start=1)}


def _pair(instruct: str | None, thinking: str | None, run: RunStore | None, donor: Donor | None) -> Pair:
    """The checkpoints that are named, else those of the run, else the built-in pair."""
    record: Mapping[str, Any] = run.provenance if run else {}
    names = {"instruct": instruct or record.get("instruct"), "thinking": thinking or record.get("thinking")}
    side = Donor(donor.value if donor else str((run.plan if run else {}).get("donor", "thinking"))).value
    if run is None and not any(names.values()):
        return Pair.built_in(donor=side)
    missing = [f"--{side}" for side, name in names.items() if not name]
    if missing:
        why = "the run names no checkpoints" if run else "one checkpoint is given"
        raise MullError(f"{' and '.join(missing)} is missing: {why}", "give both, or neither for the built-in pair")
    return Pair.open(str(names["instruct"]), str(names["thinking"]), donor=side)


def _show(found: Pilot, stdout: Console) -> None:
    from mull.reports.geometry.tables import layers_table, summary_table, violations_table
    from mull.reports.geometry.words import sentences, verdict
    from mull.reports.renderers import terminal

    stdout.print(found.title, style="bold", highlight=False, markup=False)
    stdout.print(terminal(summary_table(found.study)), highlight=False)
    stdout.print(
        terminal(layers_table(found.study).select("pair_cka", "pair_linearity", "control_cka")), highlight=False
    )
    if found.frontier and found.frontier.violations:
        stdout.print(terminal(violations_table(found.frontier)), highlight=False)
    stdout.print(f"\nσ of all weights: {found.weights.overall:.4f}", highlight=False)
    for sentence in sentences(found):
        stdout.print(sentence, highlight=False, markup=False)
    stdout.print(f"\n{verdict(found.study)}", style="bold", highlight=False, markup=False)


def _record(found: Pilot, paths: list[Path]) -> dict[str, Any]:
    """The verdict and every table, whose rows are those of the CSV files."""
    from mull.reports.geometry.tables import geometry_tables
    from mull.reports.geometry.words import sentences, verdict

    study = found.study
    return {
        "title": found.title,
        "verdict": verdict(study),
        "words": sentences(found),
        "gradual": study.gradual,
        "connected": study.connected,
        "control_breaks": study.control_breaks,
        "cka_gain": study.cka_gain,
        "barrier_gain": study.barrier_gain,
        "sigma": found.weights.overall,
        **{table.name: table.frame().to_dicts() for table in geometry_tables(found)},
        "setup": found.setup,
        "files": paths,
    }
