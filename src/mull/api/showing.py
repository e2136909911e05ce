"""How objects of the Python face look: as text where Python prints them, as HTML in a notebook."""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import replace
from html import escape
from typing import TYPE_CHECKING

from rich.console import Console, RenderableType

if TYPE_CHECKING:
    from mull.reports.figures.render import Figure
    from mull.reports.table import Table

WIDTH = 100
"""Characters of a line."""


def as_text(shown: RenderableType) -> str:
    """What rich prints, without colours, without a line break at the end."""
    console = Console(file=io.StringIO(), width=WIDTH, force_jupyter=False, force_terminal=False)
    console.print(shown, highlight=False)
    assert isinstance(console.file, io.StringIO)
    return "\n".join(line.rstrip() for line in console.file.getvalue().rstrip("\n").splitlines())


def table_text(table: Table) -> str:
    """A table as text, its caption below."""
    from mull.reports.renderers import terminal

    return as_text(terminal(table))


def table_html(table: Table) -> str:
    """A table as HTML, its caption below."""
    from mull.reports.html.render import html
    from mull.reports.table import STAR

    # A page marks these rows by its style sheet, which a notebook has not.
    rows = [replace(row, name=f"{row.name} {STAR}") if row.star else row for row in table.rows]
    table = replace(table, rows=rows)
    return f"{html(table, titled=True)}<p><small>{escape(table.legend)}</small></p>"


def figure_html(figure: Figure) -> str:
    """A figure as SVG on its own ground, so that it can be read in a dark notebook, too."""
    from mull.reports.figures.render import svg

    return f'<div style="max-width: 60em">{svg(figure, opaque=True)}</div>'


def paragraphs(lines: Iterable[str]) -> str:
    """Lines as HTML, one paragraph each."""
    return "".join(f"<p>{escape(line)}</p>" for line in lines if line.strip())
