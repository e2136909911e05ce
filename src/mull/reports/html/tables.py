"""The report's tables as HTML, and the two lists beside them."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from mull.analysis.tables import PublishedRow
from mull.reports.format import setting_name
from mull.reports.results import Results
from mull.runs.paper.published import published_setting


def frontier_table(results: Results) -> str:
    """The dominated settings that lie within one standard error of the frontier; empty if none does."""
    if not results.frontier.near:
        return ""
    names = {m.setting: setting_name(m) for m in results.metrics}
    items = []
    for near in results.frontier.near:
        _, _, deficit = near.note.partition(": ")
        text = f"{names[near.point.setting]} is within one standard error of {names[near.dominated_by]}: {deficit}"
        items.append(f"<li>{escape(text)}</li>")
    return f'<details><summary>Beaten, but within the error</summary><ul class="note">{"".join(items)}</ul></details>'


def published_rows(results: Results) -> dict[str, PublishedRow]:
    """Setting → the published row beside it, where there is one."""
    found = {m.setting: published_setting(results.plan, m.setting) for m in results.metrics}
    return {setting: row for setting, row in found.items() if row}


def pairs_table(rows: Sequence[tuple[str, str]], title: str) -> str:
    """Names and values."""
    body = "".join(f'<tr><th scope="row">{escape(name)}</th><td>{escape(value)}</td></tr>' for name, value in rows)
    return f'<h3>{escape(title)}</h3><table class="pairs"><tbody>{body}</tbody></table>'
