"""`merge`: writes the checkpoints between two models, or a merge of several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, Unpack, overload

from mull.api.progress import observer_of
from mull.checkpoints.checkpoint import Checkpoint
from mull.checkpoints.pair import Group
from mull.errors import MullError, nearest
from mull.merging.coefficients import Coefficients
from mull.merging.coefficients.presets import preset as find_preset
from mull.merging.coefficients.selectors import parse_rule
from mull.merging.methods import Method, make
from mull.merging.recipes import MergeSettings, read_recipe
from mull.merging.streaming.plan import MergePlan, plan_merge
from mull.reports.cards.model import model_card
from mull.runs.sessions.observer import Observer
from mull.words import counted

if TYPE_CHECKING:
    from mull.reports.cards.measured import Measured

_UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}

Models = Group | Sequence[str | Path]
Weight = float | Coefficients
"""One λ (of methods on task vectors: one α), or one for each parameter."""


class Options(TypedDict, total=False):
    """What `mull.merge` takes besides."""

    method: str | Method
    """A name of `mull methods`, or the method itself; `mi`, interpolation."""
    preset: str
    """A published setting in place of a method, as in `mi-paper:ties`."""
    parameters: Mapping[str, str | float | bool]
    """Of the method, as in `{"density": 0.2}`."""
    weights: Sequence[float]
    """Of more than two models, one each; they sum to 1."""
    rules: Sequence[str]
    """A λ for some parameters, as in `"layers:0-11 modules:ffn=0.3"`."""
    config: str | Path
    """Everything on what to merge and how, from mergekit's YAML or the TOML of `mull merge --export-recipe`."""
    base: str | Path
    """Of models that are given by their names: the checkpoint that they were trained from."""
    donor: int
    """Of such models: the index of the one that gives template, tokenizer and layout; −1, the last."""
    dtype: str
    """bfloat16, float16 or float32; the donor's."""
    shard_size: str | int
    """The largest shard, in bytes or as in `"5GB"`; as the donor's."""
    allow: Sequence[str]
    """Refusals to overrule: rope, config, tokens, vocabulary, non-finite."""
    extrapolate: bool
    """Allow λ outside [0, 1]."""
    overwrite: bool
    """Replace the output folder, if it is a model."""
    run: str | Path
    """A run that measured this λ of this pair: the model card shows its figures."""
    hash_inputs: bool
    """Record the SHA-256 of the inputs."""
    threads: int
    """That move data; 2."""
    device: str
    """cpu, cuda, cuda:1 …: the same bytes."""


@overload
def merge(
    models: Models | None = None,
    lam: Weight | None = None,
    *,
    out: str | Path,
    quiet: bool = False,
    **options: Unpack[Options],
) -> Path: ...


@overload
def merge(
    models: Models, lam: Sequence[Weight], *, out: str | Path, quiet: bool = False, **options: Unpack[Options]
) -> list[Path]: ...


def merge(
    models: Models | None = None,
    lam: Weight | Sequence[Weight] | None = None,
    *,
    out: str | Path,
    quiet: bool = False,
    **options: Unpack[Options],
) -> Path | list[Path]:
    """Write Θ(λ) = λ·Thinking + (1−λ)·Instruct, or what another method makes of two or more models.

    Everything is checked before the first byte is written. Elements are rounded once, at the end; λ = 0 and λ = 1 give
    the weights of the ends byte for byte. The same call goes on with a merge that was stopped, by Ctrl-C or a kill.

    Args:
        models: a `Pair` or `Group`, or the names (folders or hub ids) of two or more checkpoints. With `config` they
            stand in place of those that the recipe names, in its order; None: the recipe's own.
        lam: λ, or α of methods on task vectors; `Coefficients` for one that varies. Several are written in one pass.
        out: the folder to write. `{lambda}` in it stands for λ; without it, several results get λ at the end.
        quiet: show no bar.
        **options: method, parameters, dtype and more: see `mull.api.merging.Options`.

    Returns:
        The folder; of several λ the folders, in their order.

    Raises:
        MullError: the models cannot be mixed, a coefficient or an option does not fit, or the result cannot be written.
    """
    _refuse_unknown(options)
    observer, several = observer_of(quiet), isinstance(lam, Sequence)
    allow, size = options.get("allow", ()), options.get("shard_size")
    if "config" in options:
        group, recipe = _of_recipe(Path(options["config"]), models, lam, options)
        method, found, varying, dtype = recipe.method, [recipe.coefficients], recipe.varying, recipe.dtype
        template = recipe.chat_template
        for note in recipe.notes:
            observer.say(f"note: {note}")
    else:
        if models is None:
            raise MullError("nothing is named to merge", "give a mull.Pair, names of models, or config")
        group = models if isinstance(models, Group) else _group(models, options.get("base"), options.get("donor", -1))
        method, default = _method(options)
        given: Sequence[Weight | None] = lam if several else [lam]  # type: ignore[assignment]
        found = [_coefficients(method, each, default, options) for each in given]
        group.check(allow)
        varying, dtype, template = None, options.get("dtype"), None
    plans = [
        plan_merge(
            group,
            each,
            method=method,
            dtype=dtype,
            shard_bytes=parse_size(size) if isinstance(size, str) else size,
            allow_non_finite="non-finite" in allow,
            varying=varying,
        )
        for each in found
    ]
    outs = [Path(name) for name in named(str(out), [each.label if each.is_scalar else "" for each in found])]
    measured = measured_by(options.get("run"), plans, template)
    passed: dict[str, Any] = {name: value for name, value in options.items() if name in _OF_WRITING}
    write(plans, outs, observer, template=template, measured=measured, **passed)
    return outs if several else outs[0]


_OF_RECIPE = ("method", "preset", "parameters", "weights", "rules", "donor", "dtype", "extrapolate")
"""What a recipe settles."""
_OF_WRITING = ("overwrite", "hash_inputs", "threads", "device")


def measured_by(
    run: str | Path | None, plans: Sequence[MergePlan], template: str | None = None
) -> list[Measured] | None:
    """What a run measured of each plan's model. `template`: see `write`.

    Raises `MullError` as `mull.reports.cards.measured.of_run`, and for a template, which the run did not have.
    """
    if run is None:
        return None
    if template is not None:
        raise MullError("the recipe has a chat template of its own, the run has not", "leave the run out")
    from mull.reports.cards.measured import of_run  # takes a second to import

    return of_run(Path(run), plans)


def write(
    plans: list[MergePlan],
    outs: list[Path],
    observer: Observer,
    *,
    template: str | None = None,
    measured: Sequence[Measured] | None = None,
    names: Sequence[str] = (),
    **options: Any,
) -> None:
    """Write each plan's model with its card to its folder.

    `template`: a chat template in place of the donor's. `measured`: what a run measured of each model; `names`: how the
    cards call them then, in place of their folders. `options`: of `mull.merging.streaming.stream.merge_all`.
    """
    # Imported here because torch is slow to import and the checks before need none.
    from mull.merging.streaming.jobs import total_progress
    from mull.merging.streaming.stream import merge_all

    plan = plans[0]
    label = f"λ = {plan.coefficients.label}" if plan.method.name == "mi" and len(plans) == 1 else plan.method.name
    own = {} if template is None else {"chat_template.jinja": template}
    titles = names or [out.name for out in outs]
    found = measured or [None] * len(plans)
    files = [
        {"README.md": model_card(plan, title, own_template=bool(own), measured=each), **own}
        for plan, title, each in zip(plans, titles, found, strict=True)
    ]
    with observer.copying(label, total_progress(plans)) as advance:
        merge_all(plans, outs, extra_files=files, progress=advance, **options)


def named(name: str, labels: Sequence[str]) -> list[str]:
    """The name of each result: `{lambda}` in `name` becomes its λ; without it, several results get λ at the end."""
    if len(labels) > 1 and "{lambda}" not in name:
        name += "-{lambda}"
    return [name.replace("{lambda}", label) for label in labels]


def parse_size(text: str) -> int:
    """The bytes that "5GB", "500MB", "2GiB" or a plain number mean."""
    stripped = text.strip().upper().replace(" ", "")
    unit = next((u for u in sorted(_UNITS, key=len, reverse=True) if stripped.endswith(u)), "")
    try:
        size = int(float(stripped.removesuffix(unit)) * _UNITS.get(unit, 1))
    except (ValueError, OverflowError):
        size = 0
    if size < 1:
        raise MullError(f"cannot read the shard size {text!r}", "write a number with a unit, as in 5GB or 500MB")
    return size


def _group(names: Sequence[str | Path], base: str | Path | None, donor: int) -> Group:
    if isinstance(names, str):  # a sequence of letters
        raise MullError(f"a merge needs two models or more, got {names!r}", "give a mull.Pair, or a list of names")
    found = [Checkpoint.open(str(name)) for name in names]
    return Group(found, Checkpoint.open(str(base)) if base else None, donor=donor)


def _of_recipe(
    path: Path, models: Models | None, lam: Weight | Sequence[Weight] | None, options: Options
) -> tuple[Group, MergeSettings]:
    """The checkpoints, checked, and the settings of the file. Raises `MullError` for options that it settles itself."""
    beside = ["lam"] * (lam is not None) + [name for name in _OF_RECIPE if name in options]
    beside += ["base"] if "base" in options and (models is None or isinstance(models, Group)) else []
    if beside:
        raise MullError(f"{', '.join(beside)} and config both say how to merge", "write it into the recipe")
    recipe = read_recipe(path)
    sources, wanted = recipe.sources, len(recipe.sources.models)
    if models is not None and not isinstance(models, Group):
        base = str(options.get("base") or "") or sources.base
        sources = replace(sources, models=tuple(map(str, models)), base=base)
    count = len(models.models) if isinstance(models, Group) else len(sources.models)
    if count != wanted:
        raise MullError(f"the recipe merges {counted(wanted, 'model')}, not {count}", "give as many, or none")
    group = models if isinstance(models, Group) else sources.open()
    group.check(options.get("allow", ()))
    return group, recipe.settings(group)


def _method(options: Options) -> tuple[Method, float | None]:
    """The method and its default coefficient."""
    method, parameters = options.get("method", "mi"), dict[str, Any](options.get("parameters", {}))
    if "weights" in options:
        parameters["weights"] = tuple(options["weights"])
    if "preset" in options:
        if "method" in options:
            raise MullError("preset names its method", "leave method out")
        found = find_preset(options["preset"])
        made = make(found.method.name, asdict(found.method) | parameters) if parameters else found.method
        return made, found.coefficient
    if isinstance(method, str):
        method = make(method, parameters)
    elif parameters:
        raise MullError(f"this {method.name} has its parameters already", "give the method's name with parameters")
    return method, method.default


def _coefficients(method: Method, lam: Weight | None, default: float | None, options: Options) -> Coefficients:
    """The coefficients of one result. Raises `MullError` where one is missing, or the method takes none."""
    rules = options.get("rules", ())
    if method.takes is None:
        if lam is not None or rules:
            raise MullError(f"the method {method.name} takes no λ with these parameters", "leave lam and rules out")
        return Coefficients.scalar(1.0)
    lam = default if lam is None else lam
    if lam is None:
        raise MullError(f"the method {method.name} needs a coefficient", "give lam, as in mull.merge(pair, 0.8, …)")
    if not isinstance(lam, Coefficients):
        beyond = options.get("extrapolate", False) or method.takes == "alpha"
        lam = Coefficients.scalar(lam, extrapolate=beyond)
    return lam.then(map(parse_rule, rules))


def _refuse_unknown(options: Mapping[str, Any]) -> None:
    for name in options:
        if name not in Options.__annotations__:
            raise MullError(f"merge has no argument {name!r}", nearest(name, Options.__annotations__))
