"""`mull merge`: write a checkpoint between two models, or a merge of several."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from mull.api.merging import measured_by, named, parse_size, write
from mull.api.progress.terminal import Terminal
from mull.checkpoints.hub import check_login, check_repo_id
from mull.checkpoints.hub import push as push_to_hub
from mull.cli.options.common import AllowOption, ExtrapolateOption, consoles, given_options
from mull.cli.options.merging import read_method, read_settings, read_sources
from mull.cli.options.recipes import export_recipe, read_config
from mull.cli.rendering.coefficients import print_explanation
from mull.cli.rendering.warnings import print_warnings
from mull.errors import MullError
from mull.merging.methods.mi import Mi
from mull.merging.recipes import MergeSettings
from mull.merging.streaming.output import check_target
from mull.merging.streaming.plan import MergePlan, plan_merge
from mull.words import counted


def merge(
    context: typer.Context,
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder to write; must not exist yet.", metavar="DIR")],
    instruct: Annotated[
        str | None, typer.Option(help="Instruct checkpoint: a folder or a hub id.", metavar="MODEL")
    ] = None,
    thinking: Annotated[
        str | None, typer.Option(help="Thinking checkpoint: a folder or a hub id.", metavar="MODEL")
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            help="Instead of Instruct and Thinking: one of several models. Repeatable.", metavar="MODEL[=WEIGHT]"
        ),
    ] = None,
    base: Annotated[
        str | None,
        typer.Option(
            help="Checkpoint from which the models were trained, for methods with task vectors.", metavar="MODEL"
        ),
    ] = None,
    lam: Annotated[
        str | None,
        typer.Option(
            "--lambda", help="λ: 0 = Instruct, 1 = Thinking. Several, as in 0.4,0.6, are made in one pass.", metavar="λ"
        ),
    ] = None,
    method: Annotated[
        str, typer.Option(help="How to merge; `mull methods` lists the methods with their parameters.", metavar="NAME")
    ] = "mi",
    preset: Annotated[
        str | None,
        typer.Option(help="A published setting: mi-paper:ta, :ta-base, :ties or :ties-base.", metavar="NAME"),
    ] = None,
    alpha: Annotated[float | None, typer.Option(help="α, the scale of task vectors.", metavar="α")] = None,
    param: Annotated[
        list[str] | None, typer.Option(help="A parameter of the method. Repeatable.", metavar="NAME=VALUE")
    ] = None,
    layers: Annotated[
        str | None,
        typer.Option(help="λ in these layers only, as in 12-35 or 0-11,24-35; 0 elsewhere.", metavar="LAYERS"),
    ] = None,
    modules: Annotated[
        str | None,
        typer.Option(help="λ in these kinds only, as in attention,ffn (or experts, router …); 0 elsewhere."),
    ] = None,
    rules: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help='A rule, as in "layers:0-11 modules:ffn=0.3" or "layers:0-35=0.2->0.9". Repeatable.',
            metavar="SELECTOR=VALUE",
        ),
    ] = None,
    coefficients: Annotated[
        Path | None, typer.Option(help="λ and its rules from a TOML file instead of --lambda.", metavar="FILE")
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            help="Everything on what to merge and how, from mergekit's YAML or the TOML of --export-recipe.",
            metavar="FILE",
        ),
    ] = None,
    export: Annotated[
        Path | None,
        typer.Option("--export-recipe", help="Write this merge's settings as TOML, for --config.", metavar="FILE"),
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Print which parameters get which λ; write nothing.")
    ] = False,
    donor: Annotated[
        str,
        typer.Option(
            help="Source of template, tokenizer, configs and layout: instruct, thinking, base or a number of --model.",
            metavar="SIDE",
        ),
    ] = "thinking",
    dtype: Annotated[str | None, typer.Option(help="bfloat16, float16 or float32 (default: the donor's).")] = None,
    shard_size: Annotated[
        str | None, typer.Option(help="Largest shard, as in 5GB (default: the donor's shards).", metavar="SIZE")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything and print the plan; write nothing.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the output folder, with all its files, if it is a model.")
    ] = False,
    run: Annotated[
        Path | None,
        typer.Option("--run", help="A run that measured λ: its figures go onto the model card.", metavar="DIR"),
    ] = None,
    hash_inputs: Annotated[bool, typer.Option("--hash", help="Record the SHA-256 of the input files.")] = False,
    push: Annotated[
        str | None, typer.Option(help="Upload the result to the hub; {lambda} is its λ.", metavar="USER/NAME")
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="With --push: a private repository.")] = False,
    threads: Annotated[int, typer.Option(help="Threads that move data.", min=1, max=64)] = 2,
    device: Annotated[
        str,
        typer.Option(
            help="Where to compute: cpu, cuda or cuda:N. Measuring and sums over rows are always done on the CPU.",
            metavar="DEVICE",
        ),
    ] = "cpu",
    allow: AllowOption = None,
    extrapolate: ExtrapolateOption = False,
) -> None:
    """Write the model Θ(λ) = λ·Thinking + (1−λ)·Instruct, or what another method makes of two or more models.

    Elements are rounded to their dtype once, at the end (error at most 0.5001 units in the last place). At λ = 0 and
    λ = 1 the weights are byte for byte those of Instruct and Thinking. The same command continues a merge that was
    killed.

    Examples:

    `mull merge --instruct A --thinking B --lambda 0.8 -o mixed`

    `mull merge --instruct A --thinking B --lambda 0.4,0.6,0.8 -o mixed-{lambda}`

    `mull merge --instruct A --thinking B --lambda 0.8 --layers 12-35 --modules ffn -o mixed --dry-run`

    `mull merge --instruct A --thinking B --base C --method ties --alpha 0.5 --param density=0.2 -o mixed`

    `mull merge --model A=0.5 --model B=0.3 --model C=0.2 -o mixed`

    `mull merge --config mergekit.yml -o mixed --export-recipe recipe.toml`
    """

    stdout, stderr = consoles()
    if config is not None:
        group, label, found = read_config(config, given_options(context), allow or ())
        labels, settings, notes = [label], [found], found.notes
    else:
        sources, weights = read_sources(instruct, thinking, model or [], base, donor)
        chosen, default, note = read_method(method, preset, param or [], weights)
        several = read_settings(
            chosen, default, lam, alpha, layers=layers, modules=modules, file=coefficients, rules=rules or [],
            extrapolate=extrapolate,
        )  # fmt: skip
        labels, notes = [text for text, _ in several], (note,) if note else ()
        settings = [
            MergeSettings(sources=sources, method=chosen, coefficients=each, dtype=dtype) for _, each in several
        ]
        group = sources.open()
    chosen_method = settings[0].method
    warnings = group.check(allow or ())
    shard_bytes = parse_size(shard_size) if shard_size is not None else None
    plans = [
        plan_merge(
            group,
            each.coefficients,
            method=each.method,
            dtype=each.dtype,
            shard_bytes=shard_bytes,
            allow_non_finite="non-finite" in (allow or ()),
            varying=each.varying,
        )
        for each in settings
    ]
    outs = [Path(name) for name in named(str(out), labels)]
    if private and push is None:
        raise MullError("--private belongs to --push", "add --push USER/NAME")
    repositories = named(push, labels) if push is not None else []
    for repository in repositories:
        check_repo_id(repository)
    if repositories and not (dry_run or explain):
        check_login()
    template = settings[0].chat_template
    measured = measured_by(run, plans, template)
    if device != "cpu":
        from mull.merging.streaming.devices import check as check_device

        check_device(device)

    print_warnings(warnings, stderr)
    for note in notes:
        stderr.print(f"[dim]note[/] {escape(note)}", highlight=False, soft_wrap=True)
    _print_plan(plans, outs, stdout)
    if export is not None:
        export_recipe(export, settings)
        stdout.print(f"wrote {export}", highlight=False, markup=False, soft_wrap=True)
    if explain:
        names = [tensor.name for tensor in group.tensors]
        symbol = "α" if chosen_method.takes == "alpha" else "λ"
        for plan in plans:
            print_explanation(plan.coefficients, names, stdout, stderr, symbol=symbol)
            for parameter, values in plan.varying.parameters:
                for role, each in zip(group.roles, values, strict=True):
                    print_explanation(each, names, stdout, stderr, symbol=f"{parameter}, {role}")
        return
    if dry_run:
        for target, plan in zip(outs, plans, strict=True):
            check_target(target, group.by_role.values(), overwrite=overwrite)
            plan.check_space(target, times=len(plans))
            plan.check_companions()
        stdout.print("dry run: nothing was written" if export is None else "dry run: no model was written")
        return
    write(
        plans, outs, Terminal(stderr), overwrite=overwrite, threads=threads, device=device, hash_inputs=hash_inputs,
        template=template, measured=measured,
    )  # fmt: skip
    for target in outs:
        stdout.print(f"wrote {target}", highlight=False, markup=False, soft_wrap=True)
    message = f"Merge with mull: {chosen_method}"
    for i, repository in enumerate(repositories):
        try:
            url = push_to_hub(outs[i], repository, private=private, message=message)
        except MullError as error:
            waiting = ", ".join(
                f"{target} as {name}" for target, name in list(zip(outs, repositories, strict=True))[i + 1 :]
            )
            raise MullError(error.what + (f"; not tried: {waiting}" if waiting else ""), error.remedy) from None
        stdout.print(f"pushed {url}", highlight=False, markup=False, soft_wrap=True)


def _print_plan(plans: list[MergePlan], outs: list[Path], stdout: Console) -> None:

    plan = plans[0]
    group = plan.group
    tensors = [tensor for shard in plan.shards for tensor in shard.tensors]
    mixed = sum(plan.copied_tensor(tensor) is None for tensor in tensors)
    dtypes = ", ".join(sorted({tensor.dtype for tensor in tensors}))
    times = f"{len(plans)} × " if len(plans) > 1 else ""
    lines = [(role.capitalize(), model.name) for role, model in group.by_role.items()]
    lines += [("method", plan.method_label)] if plan.method != Mi() else []
    name, _ = plan.coefficient
    lines += [(name, ", ".join(each.coefficient[1] for each in plans))] if name else []
    lines += [
        ("donor", f"{group.donor_role} (template, tokenizer, generation config, tensor layout)"),
        (
            "tensors",
            f"{len(tensors):,} in {counted(len(plan.shards), 'shard')}, {dtypes}; "
            f"{mixed} mixed, {len(tensors) - mixed} copied",
        ),
        ("bytes", f"{times}{plan.nbytes / 1e9:.3f} GB to write, {plan.read_bytes / 1e9:.3f} GB to read"),
    ]
    lines += [("to", ", ".join(map(str, outs)))]
    for label, value in lines:
        stdout.print(f"[dim]{label:>9}[/]  {escape(value)}", highlight=False, soft_wrap=True)
