"""What a page consists of: sections of paragraphs, figures, tables and lists. How they look is said in `templates/`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from markupsafe import Markup

from mull.reports.figures.render import Figure, inline_svg, size
from mull.reports.figures.theme import Variant
from mull.reports.table import Table


class Link(NamedTuple):
    """A link to a file beside the page."""

    path: str
    text: str


@dataclass(frozen=True)
class Paragraph:
    """Plain text, with links behind it."""

    kind: ClassVar = "paragraph"
    text: str
    note: bool = False
    """Whether it is set small, as the notes below tables are."""
    links: Sequence[Link] = ()


class Panel(NamedTuple):
    """One figure in both themes, of which the page shows one."""

    light: Markup
    dark: Markup
    width: int
    """Of the figure, in CSS pixels."""
    classes: str


@dataclass(frozen=True)
class Panels:
    """Figures side by side at one scale or, where `single`, one figure in several versions."""

    kind: ClassVar = "panels"
    panels: Sequence[Panel]
    caption: str
    single: bool = False
    links: Sequence[Link] = ()


@dataclass(frozen=True)
class Tabular:
    """A table, its title above it where it is `titled`."""

    kind: ClassVar = "tabular"
    table: Table
    titled: bool = False


@dataclass(frozen=True)
class Pairs:
    """Names and values, under a title where there is one; with `code`, values are commands."""

    kind: ClassVar = "pairs"
    rows: Sequence[tuple[str, str]]
    title: str = ""
    code: bool = False


@dataclass(frozen=True)
class Items:
    """A list of short texts."""

    kind: ClassVar = "list"
    items: Sequence[str]


@dataclass(frozen=True)
class Details:
    """Parts that the reader unfolds."""

    kind: ClassVar = "details"
    summary: str
    parts: Sequence[Part]


Part = Paragraph | Panels | Tabular | Pairs | Items | Details


@dataclass(frozen=True)
class Section:
    """A titled part of the page; `key` is its address, unique on the page."""

    key: str
    title: str
    parts: Sequence[Part]


class Contents(NamedTuple):
    """Links to sections (key, title), below a head where there is one."""

    places: Sequence[tuple[str, str]]
    head: str = ""


class Incomplete(NamedTuple):
    """What is missing, and what this means for the figures."""

    what: str
    so: str


def panels(
    name: str,
    draw: Callable[[Variant], Sequence[Figure]],
    labels: Sequence[str],
    caption: str,
    *,
    versions: Sequence[str] = (),
    links: Sequence[Link] = (),
) -> Panels:
    """Figures that `draw` gives for a theme. `name` makes their ids unique, `labels` are what screen readers say.

    With `versions`, a class for each, they are versions of one figure; one figure alone is its only version.
    """
    found: dict[str, list[Markup]] = {}
    for variant in ("light", "dark"):
        drawn = enumerate(zip(draw(variant), labels, strict=True))
        found[variant] = [
            inline_svg(figure, variant, name=f"{name}{i}-{variant}", label=label) for i, (figure, label) in drawn
        ]
    single = bool(versions) or len(labels) == 1
    each = [
        Panel(light, dark, round(size(light)[0]), versions[i] if versions else "")
        for i, (light, dark) in enumerate(zip(found["light"], found["dark"], strict=True))
    ]
    return Panels(each, caption, single, links)
