"""A `Table` as LaTeX (booktabs), Markdown and HTML. Every text is escaped here."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape
from itertools import groupby

from mull.reports.export import escaped
from mull.reports.format import NONE
from mull.reports.table import NEAR, Cell, Column, Row, Table

END = " \\\\"
"""Of a row in LaTeX."""
_PAGE = 45
"""More rows than this do not fit a page."""
_MANY = 8
"""More columns than this are set closer."""


def latex(table: Table) -> str:
    """A floating table for `\\input`; one too long for a page breaks over pages instead (not in two columns)."""
    columns = table.columns
    align = "l" + "".join("l" if column.decimals is None else "r" for column in columns)
    caption = f"\\caption{{{escaped(table.title)}. {escaped(table.legend)}}}"
    label = f"\\label{{tab:{table.name}}}"
    heads = [
        *_latex_groups(columns),
        " & ".join(escaped(head) for head in (table.head, *(c.head for c in columns))) + END,
    ]
    body = []
    for i, (section, rows) in enumerate(_sections(table.rows)):
        if section:
            body += ["\\midrule"] if i else []
            body.append(f"\\multicolumn{{{len(columns) + 1}}}{{l}}{{\\textit{{{escaped(section)}}}}}" + END)
        for row in rows:
            cells = [_latex_cell(cell, column) for cell, column in zip(row.cells, columns, strict=True)]
            # Bare brackets at the start of a row would be an argument of the row's end before it.
            body.append(" & ".join([f"{{{escaped(row.name)}}}", *cells]) + END)
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
    heads = [f"{column.group} {column.head}".strip() for column in table.columns]
    align = ["---", *("---" if column.decimals is None else "---:" for column in table.columns)]
    lines = [f"### {_plain(table.title)}", "", _line([table.head, *heads]), _line(align, plain=False)]
    for section, rows in _sections(table.rows):
        if section:
            lines.append(_line([f"*{_plain(section)}*", *[""] * len(heads)], plain=False))
        for row in rows:
            cells = [_markdown_cell(cell, column) for cell, column in zip(row.cells, table.columns, strict=True)]
            lines.append(_line([_plain(row.name), *cells], plain=False))
    return "\n".join([*lines, "", _plain(table.legend), ""])


def html(table: Table) -> str:
    """A scrolling table element, without title and caption."""
    groups = _groups(table.columns)
    above = ""
    if any(name for name, _ in groups):
        cells = "".join(f'<th scope="colgroup" colspan="{n}" class="over">{escape(name)}</th>' for name, n in groups)
        above = f"<tr><td></td>{cells}</tr>"
    css = _classes(table.columns)
    heads = "".join(
        f'<th scope="col"{kind}>{escape(column.head)}</th>' for column, kind in zip(table.columns, css, strict=True)
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
            body += f'<tr><th scope="row">{escape(row.name)}</th>{cells}</tr>'
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(table.title)}"><table{wide}>'
        f'<thead>{above}<tr><th scope="col">{escape(table.head)}</th>{heads}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


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


def value_text(value: float, decimals: int) -> str:
    """With thousands separators and a true minus; a dash for NaN."""
    return NONE if math.isnan(value) else f"{value:,.{decimals}f}".replace("-", "−")


def _parts(cell: Cell, column: Column) -> tuple[str, str]:
    """The value, and its error or interval."""
    decimals = column.decimals or 0
    value = value_text(cell.value, decimals)
    if cell.note:
        return value, cell.note
    if not math.isnan(cell.low):
        return value, f"[{value_text(cell.low, decimals)}, {value_text(cell.high, decimals)}]"
    return value, "" if math.isnan(cell.error) else f"± {value_text(cell.error, decimals)}"


def _latex_cell(cell: Cell | str, column: Column) -> str:
    if isinstance(cell, str):
        return escaped(cell)
    value, extra = (escaped(part) for part in _parts(cell, column))
    marked = {"best": f"\\textbf{{{value}}}", "second": f"\\underline{{{value}}}"}.get(cell.mark, value)
    marked += {"near-best": "$^\\dagger$", "near-second": "$^\\ddagger$"}.get(cell.mark, "")
    return f"{marked} {{\\tiny {extra}}}" if extra else marked


def _markdown_cell(cell: Cell | str, column: Column) -> str:
    return _marked(cell, column, "**{}**", "<u>{}</u>", lambda extra: extra, _plain)


def _html_cell(cell: Cell | str, column: Column) -> str:
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
    value, extra = (escaping(part) for part in _parts(cell, column))
    forms = {"best": best, "second": second}
    marked = forms.get(cell.mark, "{}").format(value) + NEAR.get(cell.mark, "")
    return f"{marked} {small(extra)}" if extra else marked


def _plain(text: str) -> str:
    """Markdown that shows `text` as it is."""
    return "".join(f"\\{letter}" if letter in "\\`*_|<>#" else letter for letter in text)


def _line(cells: Sequence[str], plain: bool = True) -> str:
    return "| " + " | ".join(_plain(cell) if plain else cell for cell in cells) + " |"
