"""A `Table` in the terminal, as LaTeX (booktabs), Markdown, HTML, CSV and Parquet. Every text is escaped here."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from html import escape
from itertools import groupby
from typing import TYPE_CHECKING

from mull.reports.table import NEAR, STAR, Cell, Column, Row, Table, parts

if TYPE_CHECKING:
    from rich.table import Table as RichTable

END = " \\\\"
"""Of a row in LaTeX."""
_PAGE = 45
"""More rows than this do not fit a page."""
_MANY = 8
"""More columns than this are set closer."""


def latex(table: Table) -> str:
    """A floating table for `\\input`; one too long for a page breaks over pages instead (not in two columns)."""
    table = table.shown
    columns = table.columns
    align = "l" + "".join("l" if column.decimals is None else "r" for column in columns)
    caption = f"\\caption{{{escaped(table.title)}. {escaped(table.legend)}}}"
    label = f"\\label{{tab:{table.name}}}"
    heads = [
        *_latex_groups(columns),
        " & ".join(escaped(head) for head in (table.head, *(c.title for c in columns))) + END,
    ]
    body = []
    for i, (section, rows) in enumerate(_sections(table.rows)):
        if section:
            body += ["\\midrule"] if i else []
            body.append(f"\\multicolumn{{{len(columns) + 1}}}{{l}}{{\\textit{{{escaped(section)}}}}}" + END)
        for row in rows:
            cells = [_latex_cell(cell, column) for cell, column in zip(row.cells, columns, strict=True)]
            # Bare brackets at the start of a row would be an argument of the row's end before it.
            body.append(" & ".join([f"{{{escaped(_name(row))}}}", *cells]) + END)
    if len(table.rows) > _PAGE:
        lines = ["% needs \\usepackage{booktabs,longtable}", "{\\footnotesize\\setlength{\\tabcolsep}{3pt}"]
        above = ["\\toprule", *heads, "\\midrule"]
        lines += [f"\\begin{{longtable}}{{{align}}}", caption + label + END, *above, "\\endfirsthead"]
        # A caption in the head of every page would be listed, and its label defined, once a page.
        lines += [*above, "\\endhead", *body, "\\bottomrule", "\\end{longtable}", "}", ""]
    else:
        lines = ["% needs \\usepackage{booktabs}", "\\begin{table*}[t]", "\\centering\\footnotesize"]
        lines += ["\\setlength{\\tabcolsep}{3pt}", caption, label, f"\\begin{{tabular}}{{{align}}}", "\\toprule"]
        lines += [*heads, "\\midrule", *body, "\\bottomrule", "\\end{tabular}", "\\end{table*}", ""]
    return "\n".join(lines)


def _latex_groups(columns: Sequence[Column]) -> list[str]:
    """The line of groups above the heads, and its rules."""
    groups = _groups(columns)
    if not any(name for name, _ in groups):
        return []
    cells, rules, at = [""], "", 2
    for name, n in groups:
        cells += [f"\\multicolumn{{{n}}}{{c}}{{{escaped(name)}}}"] if name else [""] * n
        rules += f"\\cmidrule(lr){{{at}-{at + n - 1}}}" if name else ""
        at += n
    return [" & ".join(cells) + END, rules]


def markdown(table: Table) -> str:
    """A pipe table under its title; groups stand before the columns' heads."""
    table = table.shown
    heads = [f"{column.group} {column.title}".strip() for column in table.columns]
    align = ["---", *("---" if column.decimals is None else "---:" for column in table.columns)]
    lines = [f"### {_plain(table.title)}", "", _line([table.head, *heads]), _line(align, plain=False)]
    for section, rows in _sections(table.rows):
        if section:
            lines.append(_line([f"*{_plain(section)}*", *[""] * len(heads)], plain=False))
        for row in rows:
            cells = [_markdown_cell(cell, column) for cell, column in zip(row.cells, table.columns, strict=True)]
            lines.append(_line([_plain(_name(row)), *cells], plain=False))
    return "\n".join([*lines, "", _plain(table.legend), ""])


def html(table: Table, *, titled: bool = False) -> str:
    """A scrolling table element, its title above it where it is to be `titled`; captions are the page's."""
    table = table.shown
    groups = _groups(table.columns)
    above = ""
    if any(name for name, _ in groups):
        cells = "".join(f'<th scope="colgroup" colspan="{n}" class="over">{escape(name)}</th>' for name, n in groups)
        above = f"<tr><td></td>{cells}</tr>"
    title = f"<caption>{escape(table.title)}</caption>" if titled else ""
    css = _classes(table.columns)
    heads = "".join(
        f'<th scope="col"{kind}>{escape(column.title)}</th>' for column, kind in zip(table.columns, css, strict=True)
    )
    body, wide = "", ' class="wide"' if len(table.columns) > _MANY else ""
    for section, rows in _sections(table.rows):
        if section:
            span = len(table.columns) + 1
            body += f'<tr class="group"><th scope="rowgroup" colspan="{span}">{escape(section)}</th></tr>'
        for row in rows:
            cells = "".join(
                f"<td{kind}>{_html_cell(cell, column)}</td>"
                for cell, column, kind in zip(row.cells, table.columns, css, strict=True)
            )
            css_row = ' class="star"' if row.star else ""
            body += f'<tr{css_row}><th scope="row">{escape(row.name)}</th>{cells}</tr>'
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(table.title)}"><table{wide}>{title}'
        f'<thead>{above}<tr><th scope="col">{escape(table.head)}</th>{heads}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def csv(table: Table) -> bytes:
    """The data frame as CSV."""
    buffer = io.BytesIO()
    table.frame().write_csv(buffer)
    return buffer.getvalue()


def parquet(table: Table) -> bytes:
    """The data frame as Parquet."""
    buffer = io.BytesIO()
    table.frame().write_parquet(buffer)
    return buffer.getvalue()


def terminal(table: Table) -> RichTable:
    """A table for rich, its caption below; heads may break, figures do not."""
    from rich import box
    from rich.markup import escape as literal
    from rich.table import Table as RichTable

    table = table.shown
    found = RichTable(
        box=box.SIMPLE_HEAD,
        show_edge=False,
        caption=literal(table.legend),
        caption_justify="left",
        padding=(0, 1, 0, 0),
    )
    found.add_column(literal(table.head), min_width=7, max_width=24, overflow="fold")
    for i, column in enumerate(table.columns):
        if column.decimals is None:
            found.add_column(literal(column.head))
            continue
        longest = max((len(_plain_cell(row.cells[i], column)) for row in table.rows), default=0)
        # In a terminal every column counts: no comma before the unit.
        found.add_column(literal(f"{column.head} {column.unit}".strip()), justify="right", min_width=longest)
    for row in table.rows:
        cells = (_plain_cell(cell, column) for cell, column in zip(row.cells, table.columns, strict=True))
        found.add_row(literal(_name(row)), *map(literal, cells))
    return found


def _plain_cell(cell: Cell | str, column: Column) -> str:
    return cell if isinstance(cell, str) else " ".join(filter(None, parts(cell, column)))


def _name(row: Row) -> str:
    return f"{row.name} {STAR}" if row.star else row.name


def _groups(columns: Sequence[Column]) -> list[tuple[str, int]]:
    return [(name, len(list(found))) for name, found in groupby(columns, key=lambda column: column.group)]


def _sections(rows: Sequence[Row]) -> list[tuple[str, list[Row]]]:
    return [(name, list(found)) for name, found in groupby(rows, key=lambda row: row.section)]


def _classes(columns: Sequence[Column]) -> list[str]:
    """HTML attributes: text to the left, room before a group."""
    found, before = [], None
    for column in columns:
        kinds = ["left"] if column.decimals is None else []
        kinds += ["first"] if column.group and column.group != before else []
        found.append(f' class="{" ".join(kinds)}"' if kinds else "")
        before = column.group
    return found


def _latex_cell(cell: Cell | str, column: Column) -> str:
    if isinstance(cell, str):
        return escaped(cell)
    value, extra = (escaped(part) for part in parts(cell, column))
    marked = {"best": f"\\textbf{{{value}}}", "second": f"\\underline{{{value}}}"}.get(cell.mark, value)
    marked += {"near-best": "$^\\dagger$", "near-second": "$^\\ddagger$"}.get(cell.mark, "")
    return " ".join(filter(None, [marked, f"{{\\tiny {extra}}}" if extra else ""]))


def _markdown_cell(cell: Cell | str, column: Column) -> str:
    return _marked(cell, column, "**{}**", "<u>{}</u>", lambda extra: extra, _plain)


def _html_cell(cell: Cell | str, column: Column) -> str:
    if isinstance(cell, str) and cell in column.tones:
        return f'<span class="{escape(column.tones[cell])}">{escape(cell)}</span>'
    return _marked(
        cell, column, "<strong>{}</strong>", "<u>{}</u>", lambda extra: f'<span class="e">{extra}</span>', escape
    )


def _marked(
    cell: Cell | str,
    column: Column,
    best: str,
    second: str,
    small: Callable[[str], str],
    escaping: Callable[[str], str],
) -> str:
    if isinstance(cell, str):
        return escaping(cell)
    value, extra = (escaping(part) for part in parts(cell, column))
    forms = {"best": best, "second": second}
    marked = forms.get(cell.mark, "{}").format(value) + NEAR.get(cell.mark, "")
    return " ".join(filter(None, [marked, small(extra) if extra else ""]))


def _plain(text: str) -> str:
    """Markdown that shows `text` as it is."""
    return "".join(f"\\{letter}" if letter in "\\`*_|<>#" else letter for letter in text)


def _line(cells: Sequence[str], plain: bool = True) -> str:
    return "| " + " | ".join(_plain(cell) if plain else cell for cell in cells) + " |"


def escaped(text: str) -> str:
    """LaTeX that shows `text` as it is: the signs that mull's own words use under any engine and encoding, other
    letters beyond ASCII as they stand, which needs an engine and a font that have them."""
    return "".join(_SPECIAL.get(letter, f"\\{letter}" if letter in "&%$#_{}" else letter) for letter in text)


_SPECIAL = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}",
    ">": r"\textgreater{}", "|": r"\textbar{}", "λ": r"$\lambda$", "−": "$-$", "±": r"$\pm$", "×": r"$\times$",
    "→": r"$\rightarrow$", "≤": r"$\leq$", "≥": r"$\geq$", "–": "--", "·": r"$\cdot$", "’": "'",
    "†": r"$\dagger$", "‡": r"$\ddagger$", "\u00a0": "~", "●": r"$\bullet$",
}  # fmt: skip
