"""Pages from the templates in `templates/`; every text is escaped there unless it is `Markup`."""

from __future__ import annotations

import json
from typing import Any

import jinja2
from markupsafe import Markup, escape

from mull.reports.table import Table, parts

_TEMPLATES = jinja2.Environment(
    loader=jinja2.PackageLoader("mull.reports.html"), autoescape=True, undefined=jinja2.StrictUndefined
)


def render(template: str, **values: Any) -> str:
    """The page of this template; a name that it uses and `values` lack is an error."""
    return _TEMPLATES.get_template(template).render(values)


def beside(package: str) -> jinja2.Environment:
    """The templates of another package, which can include and import those of this one."""
    return _TEMPLATES.overlay(loader=jinja2.ChoiceLoader([jinja2.PackageLoader(package), _TEMPLATES.loader]))  # pyright: ignore


def html(table: Table, *, titled: bool = False) -> str:
    """A scrolling table element, its title above it where it is to be `titled`; captions are the page's."""
    return str(_TEMPLATES.get_template("parts.html").module.table(table.shown, titled))  # pyright: ignore


def encode(value: Any) -> Markup:
    """JSON that may stand inside `<script>`: no character in it can end the element or open a comment."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    # A lone surrogate cannot be written as UTF-8.
    return Markup(text.encode("utf-8", "replace").decode())


def _prose(text: str) -> Markup:
    """Text that does not break inside `λ = 0.5` and `95 %`."""
    bound = {"λ = ": "λ\u00a0=\u00a0", " %": "\u00a0%", " ± ": "\u00a0±\u00a0"}
    for found, kept in bound.items():
        text = text.replace(found, kept)
    return escape(text)


_TEMPLATES.filters |= {"prose": _prose, "parts": parts}
