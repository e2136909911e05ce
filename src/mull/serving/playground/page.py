"""The page as text, and the headers that keep everything else out of it.

It is one file: style and scripts are in it, nothing is loaded from elsewhere, and it talks to the API of its own server
alone.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from mull.reports.html.render import beside, encode
from mull.serving.levels import Levels

MOST_SETTINGS = 4
"""How many settings can be compared side by side."""
_TEMPLATES = beside("mull.serving.playground")


class Page(NamedTuple):
    """A page and the headers of its reply."""

    html: str
    headers: Mapping[str, str]


def page(
    levels: Levels,
    *,
    pair: str,
    measured: Mapping[str, Any] | None = None,
    keyed: bool = False,
    examples: Sequence[str] = (),
) -> Page:
    """The playground of the server with these `levels`.

    `pair`: the two checkpoints in words. `measured`: of `mull.serving.playground.measured`. `keyed`: whether the API
    asks for a key; the page itself is given out without one. `examples`: questions to begin with.
    """
    data = {
        "model": levels.model,
        "default": levels.default,
        "auto": levels.auto,
        "only": levels.only,
        "efforts": list(levels.efforts.items()),
        "effortsFrom": levels.measured,
        "measured": measured,
        "keyed": keyed,
        "most": MOST_SETTINGS,
    }
    template = _TEMPLATES.get_template("playground.html")
    html = template.render(model=levels.model, pair=pair, measured=measured, examples=examples, data=encode(data))
    return Page(html, _headers(html))


def _headers(html: str) -> dict[str, str]:
    """Only the style and the script of this very page may run, told by their hashes."""
    styles, scripts = (
        " ".join(f"'sha256-{_hash(text)}'" for text in re.findall(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL))
        for tag in ("style", "script")
    )
    policy = {
        "default-src": "'none'",
        "connect-src": "'self'",
        "img-src": "data:",
        "style-src": styles,
        "script-src": scripts,
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    return {
        "Content-Security-Policy": "; ".join(f"{name} {value}" for name, value in policy.items()),
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-store",
    }


def _hash(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
