"""Figures to SVG text, PNG and PDF bytes through vl-convert: no browser, no network."""

from __future__ import annotations

import re
from typing import Any

import altair as alt
import vl_convert
from markupsafe import Markup, escape

from mull.reports.figures.theme import THEMES, Variant, config

Figure = alt.LayerChart | alt.Chart | alt.HConcatChart | alt.VConcatChart

PNG_SCALE = 2.0
"""Pixels per CSS pixel."""

# The schema of altair and the bundled Vega-Lite share a major version; the newest bundled one is taken.
_OPTIONS: dict[str, Any] = {"allowed_base_urls": []}


def spec(figure: Figure, variant: Variant = "light", *, opaque: bool = False) -> dict[str, Any]:
    """The Vega-Lite JSON of a figure in one theme; `opaque` paints the theme's background."""
    theme = THEMES[variant]
    settings = config(theme) | ({"background": theme.background} if opaque else {})
    return figure.to_dict() | {"config": settings}


def svg(figure: Figure, variant: Variant = "light", *, opaque: bool = False) -> str:
    """One SVG element as text, fonts by name."""
    return vl_convert.vegalite_to_svg(spec(figure, variant, opaque=opaque), **_OPTIONS)


def png(figure: Figure, variant: Variant = "light", *, scale: float = PNG_SCALE) -> bytes:
    """PNG bytes at `scale` pixels per CSS pixel, on the theme's background."""
    return vl_convert.vegalite_to_png(spec(figure, variant, opaque=True), scale=scale, **_OPTIONS)


def pdf(figure: Figure, variant: Variant = "light") -> bytes:
    """PDF bytes with embedded fonts, on the theme's background."""
    return vl_convert.vegalite_to_pdf(spec(figure, variant, opaque=True), **_OPTIONS)


def inline_svg(figure: Figure, variant: Variant, *, name: str, label: str) -> Markup:
    """An SVG element of class `variant` to put into a page: its ids are made unique by `name`, `label` is what a screen
    reader says."""
    text = svg(figure, variant)
    text = text[text.index("<svg") :].strip()
    # Functions: a replacement's backslashes would be read as groups, and `name` may hold some.
    own = escape(name)
    text = re.sub(r'\bid="([^"]+)"', lambda found: f'id="{own}-{found[1]}"', text)
    text = re.sub(r"url\(#([^)]+)\)", lambda found: f"url(#{own}-{found[1]})", text)
    # The element stands in an HTML page: width and height are the page's, the namespaces are known.
    head, rest = text.split(">", 1)
    head = re.sub(r'\s(xmlns(:\w+)?|version|class|width|height)="[^"]*"', "", head)
    # What stands inside an image has no role of its own.
    rest = re.sub(r"<[a-z][^>]*>", lambda tag: re.sub(r'\s(role|aria-[a-z]+)="[^"]*"', "", tag[0]), rest)
    attributes = f'<svg class="{variant}" role="img" aria-label="{escape(label)}"'
    return Markup(head.replace("<svg", attributes, 1) + ">" + rest)


def size(figure_svg: str) -> tuple[float, float]:
    """Width and height of an SVG's viewBox, CSS pixels."""
    found = re.search(r'viewBox="([-\d.]+) ([-\d.]+) ([\d.]+) ([\d.]+)"', figure_svg)
    assert found, "vl-convert always writes a viewBox"
    return float(found[3]), float(found[4])
