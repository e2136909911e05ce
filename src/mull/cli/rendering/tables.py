"""Tables of findings for the terminal, shared by `sweep`, `demo` and `report`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

    from mull.analysis.frontier import Frontier
    from mull.analysis.metrics import SettingMetrics
    from mull.analysis.paired import Contrast, PairedDifference
    from mull.analysis.stages import Stages


def metrics_table(metrics: Sequence[SettingMetrics], frontier: Frontier | None = None) -> Table:
    """One row per setting, values ± one standard error; settings of the frontier are marked."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    from mull.reports.format import at, common_k, count, per_question, percent

    each, k = per_question(metrics), common_k(metrics)
    best = {point.setting for point in frontier.points} if frontier else set()
    caption = "± one standard error, clustered by question" + ("; ● no other setting beats it on both" if best else "")
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, caption=caption, caption_justify="left", padding=(0, 1, 0, 0))
    name = "λ" if all(m.lam is not None for m in metrics) else "setting"
    table.add_column(name, min_width=7, max_width=24, overflow="fold")
    heads = [f"{at('Mean', each)} %"]
    heads += [f"{at('Pass', k)} %"] if k != 1 else []
    heads += [f"{at('Vote', each)} %"] if each != 1 else []
    for head in (*heads, "Think #R %", "Token #N", "cut off %"):
        table.add_column(head, justify="right", no_wrap=True)
    for m in metrics:
        cells = [percent(m.mean_at_k)]
        cells += [percent(m.pass_at_k)] if k != 1 else []
        cells += [percent(m.vote_at_k)] if each != 1 else []
        mark = " ●" if m.setting in best else ""
        table.add_row(escape(m.setting) + mark, *cells, percent(m.think_ratio), count(m.tokens), percent(m.truncation))
    return table


def contrasts_table(contrasts: Sequence[Contrast], reference: str) -> Table:
    """Each setting less the reference, with 95 % intervals paired by question."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    caption = "95 % intervals, paired by question; p: of no difference in accuracy, corrected by Holm's method"
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, caption=caption, caption_justify="left", padding=(0, 1, 0, 0))
    table.add_column(f"less {escape(reference)}", max_width=24, overflow="fold")
    for head in ("accuracy, points", "p", "tokens"):
        table.add_column(head, justify="right", no_wrap=True)
    for each in contrasts:
        p = "" if each.accuracy.alike or math.isnan(each.p_value) else f"{each.p_value:.3f}"
        p = "<0.001" if p == "0.000" else p
        table.add_row(escape(each.setting), _interval(each.accuracy, 100, ".1f"), p, _interval(each.tokens, 1, ",.0f"))
    return table


def _interval(difference: PairedDifference, scale: float, form: str) -> str:
    mean = f"{difference.difference * scale:+{form}}".replace("-", "−")
    if difference.alike:
        return f"{mean} on every question" if difference.difference else "no question differs"
    low, high = (f"{bound * scale:{form}}".replace("-", "−") for bound in (difference.low, difference.high))
    return f"{mean} ({low} to {high})"


def stages_text(stages: Stages | None) -> str:
    """Stage 2 in one line per way of finding it, or why there is none."""
    if stages is None:
        return "stages: no setting has a λ"
    if not stages.found:
        return f"stages: no transition found: {stages.reason}"
    lines = []
    if stages.grid:
        lines.append(f"stage 2 by the grid rule: λ {stages.grid[0]:g} to {stages.grid[1]:g}")
    fit = stages.fit
    if fit and fit.identified:
        sure = stages.intervals.get("midpoint")
        interval = f" (95 % interval {sure[0]:.3f} to {sure[1]:.3f})" if sure else ""
        bounds = f"λ {fit.crossing_5:.3f} to {fit.crossing_95:.3f}"
        lines.append(f"stage 2 by the fit: {bounds}, midpoint {fit.midpoint:.3f}{interval}")
    elif fit:
        lines.append(f"stage 2 by the fit: within λ {fit.bracket[0]:g} to {fit.bracket[1]:g}")
    return "\n".join(lines)
