"""Published result tables: any CSV with a λ and a Think #R column, read into rows with fractions 0–1.

Handles spellings only: aliases, percent signs, thousands separators, missing cells (`mull.analysis.stages` interprets
the rows). The numbers of Wu et al. 2025 (arXiv 2510.10977) for Qwen3-4B are shipped: sweeps, baselines and ablations.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from mull.encodings import decoded
from mull.errors import MullError

SHARES = ("mean_at_k", "pass_at_k", "vote_at_k", "think_ratio")
"""Columns that hold shares, in percent or as fractions."""

_ALIASES = {
    "study": {"study"},
    "method": {"method", "setting", "name", "variant"},
    "model": {"model", "pair", "backbone", "size"},
    "lam": {"lambda", "lam", "λ", "coefficient", "ratio_lambda"},
    "benchmark": {"benchmark", "bench", "dataset", "task"},
    "stratum": {"stratum", "strata", "difficulty"},
    "k": {"k", "samples"},
    "mean_at_k": {"mean_at_k", "mean", "accuracy", "acc"},
    "pass_at_k": {"pass_at_k", "pass"},
    "vote_at_k": {"vote_at_k", "vote", "maj_at_k", "maj", "cons_at_k"},
    "tokens": {"tokens", "token", "token_n", "tokens_n", "mean_tokens", "length"},
    "think_ratio": {"think_ratio", "think_r", "think", "think_rate", "thinking_ratio", "closed"},
}
_MISSING = {"", "-", "–", "—", "−", "/", "n/a", "na", "nan", "none", "null"}
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.I)
_THOUSANDS = re.compile(r"[+-]?\d{1,3}(,\d{3})+(\.\d*)?")


@dataclass(frozen=True, kw_only=True)
class PublishedRow:
    """One setting on one benchmark, as published. Shares are fractions 0–1; NaN and None where not given."""

    study: str = ""
    """Which ablation the row belongs to: layers, modules, backbone or decoding; empty for none."""
    method: str = ""
    model: str = ""
    lam: float | None
    benchmark: str = ""
    stratum: str = ""
    """Difficulty class of the questions, or empty for all of them."""
    k: int | None = None
    mean_at_k: float = math.nan
    pass_at_k: float = math.nan
    vote_at_k: float = math.nan
    tokens: float = math.nan
    """Mean generated tokens per response."""
    think_ratio: float = math.nan


def published() -> list[PublishedRow]:
    """The results of Wu et al. 2025 for Qwen3-4B-2507 on AIME'25, IFEval and GPQA-Diamond."""
    return _shipped("mi-qwen3-4b.csv")


def published_ablations() -> list[PublishedRow]:
    """The ablations of Wu et al. 2025 for Qwen3-4B-2507, labelled as `mull ablate` labels its settings.

    Layers (of 36), modules and backbones are on AIME'25 at λ = 0.8. Decoding (IFEval, λ = 0.4) is one row, whose
    `mean_at_k` is the largest Mean@k of 12 settings − the smallest.
    """
    return _shipped("mi-qwen3-4b-ablations.csv")


def _shipped(name: str) -> list[PublishedRow]:
    return parse_table(files("mull.analysis").joinpath("published", name).read_text(encoding="utf-8"), name)


def read_table(path: Path | str) -> list[PublishedRow]:
    """Read a CSV file (comma, semicolon or tab; UTF-8 with or without BOM). Raises `MullError` as `parse_table`."""
    path = Path(path)
    try:
        text = decoded(path, path.read_bytes())
    except FileNotFoundError:
        raise MullError(f"no file {path}", "give the path of a CSV table") from None
    except OSError as error:
        raise MullError(f"cannot read {path}: {error.strerror}", "give the path of a CSV table") from None
    return parse_table(text, str(path))


def parse_table(text: str, name: str = "the table") -> list[PublishedRow]:
    """Parse CSV `text`; error messages call it `name`.

    Needs the columns λ and Think #R under any usual spelling; others are optional, unknown ones ignored. A column of
    shares is in percent if its header or a cell says `%` or any of its values exceeds 1. Raises `MullError` for a
    missing column, a row with fewer or more cells than the header (empty ones at its end aside), a cell that is not a
    number, a share outside its range, and a table without any λ. A λ may lie outside [0, 1] (extrapolated weights).
    """
    lines = text.removeprefix("\ufeff").splitlines(keepends=True)
    delimiter = max(",;\t", key=lines[0].count) if lines else ","
    reader = csv.reader(io.StringIO("".join(lines)), delimiter=delimiter)
    cells = ([cell.strip() for cell in row] for row in reader)
    numbered = [(reader.line_num, row) for row in cells if any(row)]
    if not numbered:
        raise MullError(f"{name} is empty", "give a CSV table with a header row")
    header = numbered.pop(0)[1]
    _check_widths(header, numbered, name)
    columns = _columns(header, name)

    def strings(column: str) -> list[str]:
        at = columns.get(column)
        return ["" if at is None else row[at] for _, row in numbered]

    def numbers(column: str) -> list[float]:
        title = header[columns[column]] if column in columns else column
        return [
            _number(cell, f"{name}, line {number}, column {title!r}")
            for (number, _), cell in zip(numbered, strings(column), strict=True)
        ]

    lams = numbers("lam")
    if all(map(math.isnan, lams)):
        raise MullError(f"{name} has no row with a λ", f"fill column {header[columns['lam']]!r} for interpolations")
    shares = {
        column: _fractions(
            numbers(column), "%" in "".join([header[columns[column]] if column in columns else "", *strings(column)])
        )
        for column in SHARES
    }
    for column, values in shares.items():
        for (number, _), value in zip(numbered, values, strict=True):
            if value < 0 or value > 1 + 1e-9:
                raise MullError(
                    f"{column} must lie in 0–100 %, got {100 * value:g} % in {name}, line {number}", "correct the cell"
                )
    ks, tokens = numbers("k"), numbers("tokens")
    studies, methods, models = strings("study"), strings("method"), strings("model")
    benchmarks, strata = strings("benchmark"), strings("stratum")
    return [
        PublishedRow(
            study=studies[i],
            method=methods[i],
            model=models[i],
            lam=None if math.isnan(lams[i]) else lams[i],
            benchmark=benchmarks[i],
            stratum=strata[i],
            k=None if math.isnan(ks[i]) else int(ks[i]),
            mean_at_k=shares["mean_at_k"][i],
            pass_at_k=shares["pass_at_k"][i],
            vote_at_k=shares["vote_at_k"][i],
            tokens=tokens[i],
            think_ratio=shares["think_ratio"][i],
        )
        for i in range(len(numbered))
    ]


def _columns(header: Sequence[str], name: str) -> dict[str, int]:
    found: dict[str, int] = {}
    for at, title in enumerate(header):
        plain = re.sub(r"[^\wλ]+", "_", title.strip().lower().replace("@", "_at_")).strip("_")
        plain = re.sub(r"_at_\d+$", "_at_k", re.sub(r"_+", "_", plain))
        for column, aliases in _ALIASES.items():
            if plain in aliases:
                found.setdefault(column, at)
    for column, title in (("lam", "lambda"), ("think_ratio", "think_ratio")):
        if column not in found:
            raise MullError(f"{name} has no column {title!r}", f"its columns are {', '.join(map(repr, header))}")
    return found


def _check_widths(header: Sequence[str], numbered: Sequence[tuple[int, list[str]]], name: str) -> None:
    """Refuse a row with fewer or more cells than the header: its values would be read under wrong titles."""
    for number, row in numbered:
        if len(row) < len(header) or any(row[len(header) :]):
            titles = ", ".join(map(repr, header))
            raise MullError(
                f"{name}, line {number} has {_cells(len(row))} where the header has {len(header)} ({titles})",
                'leave a cell empty where there is no value, and quote a cell that holds the separator ("1,234")',
            )


def _cells(count: int) -> str:
    return f"{count} cell{'s' if count != 1 else ''}"


def _number(cell: str, where: str) -> float:
    plain = cell.removesuffix("%").strip()
    if plain.lower() in _MISSING:
        return math.nan
    plain = plain.replace("−", "-")
    if _THOUSANDS.fullmatch(plain):
        plain = plain.replace(",", "")
    if not _NUMBER.fullmatch(plain) or not math.isfinite(float(plain)):
        raise MullError(f"{where}: {cell!r} is not a number", "leave the cell empty where there is no value")
    return float(plain)


def _fractions(values: list[float], marked: bool) -> list[float]:
    percent = marked or any(value > 1 + 1e-9 for value in values)
    return [value / 100 if percent else value for value in values]
