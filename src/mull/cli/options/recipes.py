"""`mull merge --config` and `--export-recipe`: settings from a file, and to one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from mull.checkpoints.pair import Group
from mull.cli.options.common import refuse_unwritable
from mull.errors import MullError
from mull.merging.coefficients.rules import shortest
from mull.merging.recipes import MergeSettings, format_settings, read_recipe

_IN_FILE = (
    "instruct", "thinking", "model", "base", "lam", "method", "preset", "alpha", "param", "layers", "modules", "rules",
    "coefficients", "donor", "dtype", "extrapolate",
)  # fmt: skip
"""Parameters of `mull merge` that a recipe settles."""


def read_config(path: Path, given: Mapping[str, str], allow: Sequence[str]) -> tuple[Group, str, MergeSettings]:
    """The checkpoints of a recipe, checked; the label of its one result (its λ or α, if it has only one); its settings.

    Raises:
        MullError: an option beside it that says the same, a file that cannot be used, or checkpoints that cannot be
            mixed in spite of `allow`.
    """
    beside = [given[name] for name in _IN_FILE if name in given]
    if beside:
        raise MullError(f"{', '.join(beside)} and --config both say how to merge", "write it into the recipe")
    recipe = read_recipe(path)
    group = recipe.sources.open()
    group.check(allow)
    settings = recipe.settings(group)
    has_label = settings.method.takes is not None and settings.coefficients.is_scalar
    return group, shortest(settings.coefficients.default) if has_label else "", settings


def export_recipe(path: Path, settings: Sequence[MergeSettings]) -> None:
    """Write the settings as TOML. Raises MullError for several results, or if the file cannot be written."""
    if len(settings) > 1:
        raise MullError(f"--export-recipe writes one merge, and these are {len(settings)}", "give one --lambda")
    refuse_unwritable("--export-recipe", path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(format_settings(settings[0]), encoding="utf-8")
    except OSError as error:
        raise MullError(f"--export-recipe cannot write {path}: {error.strerror}", "choose another place") from None
    except UnicodeEncodeError:
        raise MullError("--export-recipe cannot write a path that is no text", "rename the model's folder") from None
