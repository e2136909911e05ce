"""Names that can stand in an id, a file name and a LaTeX label unescaped."""

from __future__ import annotations

import re
from collections.abc import Iterable


def slugs(names: Iterable[str]) -> list[str]:
    """Each name in `[a-z0-9-]`, all different: `frontier-my-data` of `frontier-My_data`, a second one with `-2`."""
    found: list[str] = []
    for name in names:
        plain = slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "x"
        number = 1
        while slug in found:
            number += 1
            slug = f"{plain}-{number}"
        found.append(slug)
    return found
