"""Files that say how to merge: mergekit's YAML, and mull's own settings as TOML."""

from __future__ import annotations

from pathlib import Path

from mull.errors import MullError
from mull.merging.recipes.mergekit import read_mergekit
from mull.merging.recipes.own import MergeSettings, Recipe, Sources, format_settings, read_settings_file

__all__ = ["MergeSettings", "Recipe", "Sources", "format_settings", "read_recipe"]


def read_recipe(path: Path) -> Recipe:
    """The recipe in a file: mull's own if its name ends in .toml, mergekit's if it ends in .yml or .yaml.

    Raises:
        MullError: the file cannot be read or says what mull does not do; the message names the file and the key.
    """
    if path.suffix.lower() == ".toml":
        return read_settings_file(path)
    if path.suffix.lower() in (".yml", ".yaml"):
        return read_mergekit(path)
    raise MullError(f"{path} is no recipe by its name", "give mergekit's .yml or .yaml, or mull's .toml")
