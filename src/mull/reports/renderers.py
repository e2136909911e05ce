"""A `Table` in the terminal, as LaTeX (booktabs), Markdown, CSV and Parquet. Every text is escaped here."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence

from rich import box
from rich.console import Console, ConsoleOptions
from rich.markup import escape as literal
from rich.table import Table as RichTable

from mull.escaping import csv_cell
from mull.escaping import markdown as _plain
from mull.reports.table import STAR, Cell, Column, Row, Table, parts

END = " \\\\"
"""Of a row in LaTeX."""
_PAGE = 45
"""More rows than this do not fit a page."""
_NAMES = (7, 24)
"""The fewest and most characters of a terminal's first column."""
_TEXT = 18
"""Characters of a column of text below which a terminal drops numbers beside it."""


def latex(table: Table) -> str:
    """A floating table for `\\input`; one too long for a page breaks over pages instead (not in two columns)."""
    table = table.shown
    columns = table.columns
    align = "l" + "".join("l" if column.decimals is None else "r" for column in columns)
    caption = f"\\caption{{{escaped(table.title)}. {escaped(table.legend)}}}"
    label = f"\\label{{tab:{table.name}}}"
    heads = [
        *_latex_groups(table),
        " & ".join(escaped(head) for head in (table.head, *(c.title for c in columns))) + END,
    ]
    body = []
    for i, (section, rows) in enumerate(table.sections):
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


def _latex_groups(table: Table) -> list[str]:
    """The line of groups above the heads, and its rules."""
    if not any(name for name, _ in table.groups):
        return []
    cells, rules, at = [""], "", 2
    for name, n in table.groups:
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
    for section, rows in table.sections:
        if section:
            lines.append(_line([f"*{_plain(section)}*", *[""] * len(heads)], plain=False))
        for row in rows:
            cells = [_markdown_cell(cell, column) for cell, column in zip(row.cells, table.columns, strict=True)]
            lines.append(_line([_plain(_name(row)), *cells], plain=False))
    return "\n".join([*lines, "", _plain(table.legend), ""])


def csv(table: Table) -> bytes:
    """The data frame as CSV, without what a spreadsheet would take for a formula."""
    import polars

    frame = table.frame()
    texts = polars.selectors.string()
    frame = frame.rename(csv_cell).with_columns(texts.map_elements(csv_cell, return_dtype=polars.String))
    # Some spreadsheets split at semicolons and tabs, too.
    split = any(";" in text or "\t" in text for column in frame.select(texts) for text in column if text)
    buffer = io.BytesIO()
    frame.write_csv(buffer, quote_style="non_numeric" if split else "necessary")
    return buffer.getvalue()


def parquet(table: Table) -> bytes:
    """The data frame as Parquet."""
    buffer = io.BytesIO()
    table.frame().write_parquet(buffer)
    return buffer.getvalue()


def terminal(table: Table) -> Fitting:
    """A table for rich, its caption below; heads may break, figures do not.

    Where the terminal is too narrow, columns of numbers are left out from the right, and the caption names them.
    """
    return Fitting(table.shown)


class Fitting:
    """A table as rich prints it, with the columns that the width has room for."""

    def __init__(self, table: Table):
        self.table = table

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RichTable]:
        kept = list(self.table.columns)
        droppable = [column for column in kept if column.decimals is not None][1:]
        while droppable and self._width(kept) > options.max_width:
            kept.remove(droppable.pop())
        yield _rich(self.table.select(*(column.key for column in kept)), self._left_out(kept))

    def _width(self, columns: Sequence[Column]) -> int:
        names = max((len(_name(row)) for row in self.table.rows), default=0)
        return min(_NAMES[1], max(_NAMES[0], names)) + sum(2 + self._room(column) for column in columns)

    def _room(self, column: Column) -> int:
        """The fewest characters that a column needs: a number must not break, nor a word of a head."""
        i = self.table.columns.index(column)
        cells = [row.cells[i] for row in self.table.rows]
        longest = max((len(_plain_cell(cell, column)) for cell in cells), default=0)
        words = [len(word) for word in f"{column.head} {column.unit}".split()]
        return max([min(longest, _TEXT) if column.decimals is None else longest, *words])

    def _left_out(self, kept: Sequence[Column]) -> str:
        names = [column.head for column in self.table.columns if column not in kept]
        return f"; no room here for {', '.join(names)}" if names else ""


def _rich(table: Table, left_out: str) -> RichTable:
    found = RichTable(
        box=box.SIMPLE_HEAD,
        show_edge=False,
        caption=literal(f"{table.legend}{left_out}"),
        caption_justify="left",
        padding=(0, 1, 0, 0),
    )
    found.add_column(literal(table.head), min_width=_NAMES[0], max_width=_NAMES[1], overflow="fold")
    for i, column in enumerate(table.columns):
        if column.decimals is None:
            found.add_column(literal(column.head), overflow="fold")
            continue
        longest = max((len(_plain_cell(row.cells[i], column)) for row in table.rows), default=0)
        # In a terminal every column counts: no comma before the unit.
        found.add_column(literal(f"{column.head} {column.unit}".strip()), justify="right", min_width=longest)
    for section, rows in table.sections:
        if section:
            found.add_row(f"[italic]{literal(section)}[/]")
        for row in rows:
            cells = (_plain_cell(cell, column) for cell, column in zip(row.cells, table.columns, strict=True))
            found.add_row(literal(_name(row)), *map(literal, cells))
    return found


def _plain_cell(cell: Cell | str, column: Column) -> str:
    return cell if isinstance(cell, str) else " ".join(filter(None, parts(cell, column)))


def _name(row: Row) -> str:
    return f"{row.name} {STAR}" if row.star else row.name


def _latex_cell(cell: Cell | str, column: Column) -> str:
    if isinstance(cell, str):
        return escaped(cell)
    value, extra = (escaped(part) for part in parts(cell, column))
    marked = {"best": f"\\textbf{{{value}}}", "second": f"\\underline{{{value}}}"}.get(cell.mark, value)
    marked += {"near-best": "$^\\dagger$", "near-second": "$^\\ddagger$"}.get(cell.mark, "")
    return " ".join(filter(None, [marked, f"{{\\tiny {extra}}}" if extra else ""]))


def _markdown_cell(cell: Cell | str, column: Column) -> str:
    if isinstance(cell, str):
        return _plain(cell)
    value, extra = (_plain(part) for part in parts(cell, column))
    marked = {"best": f"**{value}**", "second": f"<u>{value}</u>"}.get(cell.mark, value) + cell.near
    return " ".join(filter(None, [marked, extra]))


def _line(cells: Sequence[str], plain: bool = True) -> str:
    return "| " + " | ".join(_plain(cell) if plain else cell for cell in cells) + " |"


def escaped(text: str) -> str:
    """LaTeX that shows `text` as it is: the signs that mull's own words use under any engine and encoding, other
    letters beyond ASCII as they stand, which needs an engine and a font that have them."""
    line = " ".join(text.splitlines())  # an empty line would end the paragraph
    return "".join(_SPECIAL.get(letter, f"\\{letter}" if letter in "&%$#_{}" else letter) for letter in line)


_SPECIAL = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}",
    ">": r"\textgreater{}", "|": r"\textbar{}", "λ": r"$\lambda$", "−": "$-$", "±": r"$\pm$", "×": r"$\times$",
    "→": r"$\rightarrow$", "≤": r"$\leq$", "≥": r"$\geq$", "–": "--", "·": r"$\cdot$", "’": "'",
    "†": r"$\dagger$", "‡": r"$\ddagger$", "\u00a0": "~", "●": r"$\bullet$",
}  # fmt: skip
