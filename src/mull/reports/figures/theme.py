"""Colours and type of the figures, light and dark. Knows no data.

The hues are those of Okabe & Ito (2008), which colour-blind readers can tell apart, darkened or lightened until small
text in them is readable on the background (contrast 4.5 : 1 at least).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Variant = Literal["light", "dark"]

FONT = "Liberation Sans, Arial, Helvetica, sans-serif"


@dataclass(frozen=True, kw_only=True)
class Theme:
    """The colours of one variant, as hex strings."""

    background: str
    ink: str
    muted: str
    faint: str
    """Grid lines and axis domains."""
    shade: str
    """Ground of stage 2."""
    accent: str
    series: tuple[str, ...]
    """Colours of curves, in order of use; the first is the accent."""
    heat: tuple[str, ...]
    """From little to much."""


LIGHT = Theme(
    background="#ffffff",
    ink="#1a1f26",
    muted="#59636f",
    faint="#e3e6ea",
    shade="#f4ecd8",
    accent="#0a5fa5",
    series=("#0a5fa5", "#b94a00", "#00745a", "#8f3f77", "#6d5a00", "#3d4650"),
    heat=("#f3f6fa", "#c9dcef", "#8fb8de", "#4a8bc4", "#1a5c9c", "#0a2f5c"),
)
DARK = Theme(
    background="#14181d",
    ink="#e8ebee",
    muted="#a3adb8",
    faint="#2c333b",
    shade="#2c2a20",
    accent="#69b1f0",
    series=("#69b1f0", "#ff9d57", "#4fcaa3", "#e39bc9", "#e3cf5a", "#c3cad2"),
    heat=("#1b222a", "#1c3a57", "#235a8a", "#3c84bd", "#7fb6e2", "#d6e9f8"),
)
THEMES: dict[Variant, Theme] = {"light": LIGHT, "dark": DARK}


def config(theme: Theme) -> dict[str, Any]:
    """The Vega-Lite `config` that every figure shares. The background is transparent: a page may have its own."""
    axis = {
        "domainColor": theme.muted,
        "domainOpacity": 0.5,
        "gridColor": theme.faint,
        "labelColor": theme.muted,
        "labelFontSize": 11,
        "labelPadding": 5,
        "tickColor": theme.muted,
        "tickOpacity": 0.5,
        "tickSize": 4,
        "titleColor": theme.muted,
        "titleFontSize": 11.5,
        "titleFontWeight": "normal",
        "titlePadding": 9,
    }
    return {
        "aria": False,
        "background": None,
        "font": FONT,
        "padding": 6,
        "axis": axis,
        "axisX": {"grid": False},
        "axisY": {"domain": False, "ticks": False},
        "legend": {"labelColor": theme.muted, "titleColor": theme.muted, "titleFontWeight": "normal"},
        "title": {
            "anchor": "start",
            "color": theme.ink,
            "fontSize": 13.5,
            "fontWeight": "bold",
            "subtitleColor": theme.muted,
            "subtitleFontSize": 11,
            "subtitlePadding": 4,
        },
        "view": {"stroke": None},
    }
