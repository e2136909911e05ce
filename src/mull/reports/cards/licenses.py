"""The license of a merge: that of its models, if they agree. Says what their own cards say, and no more."""

from __future__ import annotations

import re
from collections.abc import Mapping

import yaml

from mull.checkpoints.checkpoint import Checkpoint
from mull.escaping import visible

_KEYS = ("license", "license_name", "license_link")
_HEADER = re.compile(r"\s*---\r?\n(.*?)\r?\n---[ \t]*(\r?\n|$)", re.DOTALL)
_LARGEST = 1 << 20
"""Bytes of a card."""


def license_of(models: Mapping[str, Checkpoint]) -> tuple[dict[str, str], str]:
    """The entries on the license for the card's header, and a sentence where the models agree on none.

    No entries and no sentence: no model has a license on record.
    """
    found = {role: _of_card(model) for role, model in models.items()}
    known = list(found.values())
    if all(each == known[0] for each in known):
        return known[0], ""
    said = ", ".join(f"{role}: {_words(each)}" for role, each in found.items())
    return {}, f"none stated, because the models' licenses are not the same ({said})"


def _words(entries: Mapping[str, str]) -> str:
    return entries.get("license_name") or entries.get("license") or "unknown"


def _of_card(model: Checkpoint) -> dict[str, str]:
    """What the header of the model's own README.md says of its license; empty where it cannot be read."""
    try:
        with (model.folder / "README.md").open(encoding="utf-8-sig") as file:
            header = _HEADER.match(file.read(_LARGEST))
        entries = yaml.safe_load(header[1]) if header else None
    except (OSError, ValueError, RecursionError, yaml.YAMLError):
        return {}
    if not isinstance(entries, dict):
        return {}
    return {key: visible(entries[key]) for key in _KEYS if isinstance(entries.get(key), str)}
