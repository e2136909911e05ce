from __future__ import annotations

import math
import re
from dataclasses import replace
from itertools import pairwise

import pytest

from mull.analysis.frontier import non_dominated, points_of
from mull.analysis.metrics import Estimate, metrics
from mull.analysis.stages import Stages, stages_of_samples
from mull.analysis.tables import published
from mull.reports.figures import charts, render
from mull.reports.figures.panels import HEIGHT, LINE, spread, within
from mull.reports.figures.theme import THEMES

PNG = b"\x89PNG\r\n\x1a\n"


def layers(chart, mark):
    """The layers of one mark type: [(encoding, rows)]."""
    spec = chart.to_dict()
    datasets = spec.get("datasets", {})

    def rows(layer):
        data = layer["data"]
        return data["values"] if "values" in data else datasets[data["name"]]

    return [(layer["encoding"], rows(layer)) for layer in spec["layer"] if layer["mark"]["type"] == mark]


def shade(chart):
    return [rows[0] for _, rows in layers(chart, "rect")]


def test_curves_show_the_metrics_and_their_errors(found):
    performance, think, tokens = charts.stage_panels(found.metrics, found.stages)
    for chart, name, factor, value in (
        (performance, "Mean@4", 100, lambda m: m.mean_at_k),
        (performance, "Pass@4", 100, lambda m: m.pass_at_k),
        (performance, "Vote@4", 100, lambda m: m.vote_at_k),
        (think, "Think #R", 100, lambda m: m.think_ratio),
        (tokens, "Token #N", 1, lambda m: m.tokens),
    ):
        line = {row["lam"]: row["value"] for _, rows in layers(chart, "line") for row in rows if row["name"] == name}
        assert line == {m.lam: pytest.approx(factor * value(m).value) for m in found.sweep}
        band = {row["lam"]: row for _, rows in layers(chart, "area") for row in rows if row["name"] == name}
        for m in found.sweep:
            estimate, cap = value(m), 100 if factor == 100 else math.inf
            assert band[m.lam]["low"] == pytest.approx(max(0, factor * (estimate.value - 1.96 * estimate.error)))
            assert band[m.lam]["high"] == pytest.approx(min(cap, factor * (estimate.value + 1.96 * estimate.error)))


def test_settings_without_lambda_are_in_the_frontier_only(found):
    assert any(m.lam is None for m in found.metrics)
    for chart in charts.stage_panels(found.metrics, found.stages):
        for mark in ("line", "point"):
            assert all(isinstance(row["lam"], float) for _, rows in layers(chart, mark) for row in rows)
    points = layers(charts.frontier_figure(found.metrics, found.frontier), "point")[0][1]
    assert {row["shape"] for row in points if row["lam"] is None} == {"diamond"}


def test_stage_2_is_shaded_where_it_was_found_and_nowhere_else(found):
    for chart in charts.stage_panels(found.metrics, replace(found.stages, grid=(0.4, 0.6))):
        assert shade(chart) == [{"start": 0.4, "end": 0.6}]
        assert [
            row["label"] for _, rows in layers(chart, "text") for row in rows if "Stage" in str(row.get("label"))
        ] == [
            "Stage 1",
            "Stage 2",
            "Stage 3",
        ]
    nothing = Stages(found=False, reason="flat", grid=None, fit=None)
    for stages in (nothing, None):
        for chart in charts.stage_panels(found.metrics, stages):
            assert shade(chart) == []


def test_narrow_stages_are_called_by_number(found):
    chart = charts.stage_panels(found.metrics, replace(found.stages, grid=(0.0, 0.05)))[1]
    # A stage 1 without extent has no name.
    assert [row["label"] for row in layers(chart, "text")[0][1]] == ["Stage 2", "Stage 3"]
    chart = charts.stage_panels(found.metrics, replace(found.stages, grid=(0.02, 0.05)))[1]
    assert [row["label"] for row in layers(chart, "text")[0][1]] == ["1", "2", "3"]


def test_overlay_is_the_published_think_ratio(found):
    _, think, _ = charts.stage_panels(found.metrics, found.stages, overlay=published())
    dashed = [rows for _, rows in layers(think, "line") if {row["name"] for row in rows} != {"Think #R"}]
    assert {row["name"] for row in dashed[0]} == {"aime25", "ifeval", "gpqa_diamond"}
    expected = {(row.benchmark, row.lam): 100 * row.think_ratio for row in published() if row.lam is not None}
    assert {(row["name"], row["lam"]): row["value"] for row in dashed[0]} == pytest.approx(expected)
    for chart in charts.stage_panels(found.metrics, found.stages)[::2]:
        assert "aime25" not in str(chart.to_dict())


def test_unknown_errors_draw_nothing(found):
    unknown = [
        replace(m, think_ratio=Estimate(m.think_ratio.value, math.nan)) if m.lam in (0.5, 0.7) else m
        for m in found.metrics
    ]
    _, think, _ = charts.stage_panels(unknown, found.stages)
    band = [row for _, rows in layers(think, "area") for row in rows]
    assert {row["lam"] for row in band} == {m.lam for m in found.sweep} - {0.5, 0.7}
    # No band over a λ whose error is unknown: each side is a run of its own.
    assert {row["run"] for row in band if row["lam"] < 0.5}.isdisjoint(row["run"] for row in band if row["lam"] > 0.5)
    assert "NaN" not in render.svg(think)


def test_a_known_error_between_unknown_ones_becomes_a_bar(found):
    one = [m if m.lam == 0.5 else replace(m, tokens=Estimate(m.tokens.value, math.nan)) for m in found.metrics]
    *_, tokens = charts.stage_panels(one, found.stages)
    assert layers(tokens, "area") == []
    assert [row["lam"] for _, rows in layers(tokens, "rule") for row in rows] == [0.5]


@pytest.mark.parametrize("questions", [1, 20])
def test_one_lambda_draws(found, questions):
    ids = sorted({sample.question for sample in found.samples})[:questions]
    samples = [s for s in found.samples if s.lam == 0.5 and s.question in ids]
    one = metrics(samples)
    stages = stages_of_samples(samples)
    chart = charts.stages_figure(one, stages)
    assert render.png(chart).startswith(PNG)
    assert layers(chart.hconcat[0], "line") == [] and layers(chart.hconcat[0], "area") == []
    assert render.svg(charts.frontier_figure(one, non_dominated(points_of(one)))).startswith("<svg")


def test_thinking_budgets_have_a_line_of_their_own(found):
    """In the order of the budgets, apart from that of λ, and labelled where the frontier's labels do not say it."""
    plain = [m for m in found.metrics if m.lam is not None]
    one, two, three = (replace(plain[0], lam=None, setting=f"Thinking, budget {n}") for n in (120, 20, 60))
    chart = charts.frontier_figure([*plain, one, two, three], found.frontier)
    lines = [[row["setting"] for row in rows] for _, rows in layers(chart, "line")]
    assert [f"Thinking, budget {n}" for n in (20, 60, 120)] in lines
    texts = [row["label"] for _, rows in layers(chart, "text") for row in rows]
    assert [text for text in texts if "budget" in text] == ["budget 20", "budget 60", "budget 120"]


def test_frontier_joins_the_non_dominated_and_labels_them_alone(found):
    chart = charts.frontier_figure(found.metrics, found.frontier)
    points = {row["setting"]: row for row in layers(chart, "point")[0][1]}
    best = {point.setting for point in found.frontier.points}
    assert {name for name, row in points.items() if row["best"]} == best
    assert 0 < len(best) < len(points)
    for m in found.metrics:
        row = points[m.setting]
        assert (row["accuracy"], row["tokens"]) == (pytest.approx(100 * m.mean_at_k.value), m.tokens.value)
        assert row["x_high"] - row["x_low"] == pytest.approx(2 * 1.96 * m.tokens.error)
    path, joined = (rows for _, rows in layers(chart, "line"))
    assert [row["setting"] for row in joined] == [point.setting for point in found.frontier.points]
    assert [row["lam"] for row in path] == [m.lam for m in found.sweep]
    labels = [row for _, rows in layers(chart, "text")[1::2] for row in rows]
    assert sorted(row["label"] for row in labels) == sorted(points[name]["label"] for name in best)


def test_strata_are_ordered_and_drawn_apart(found):
    assert list(found.strata) == ["easy", "medium", "hard"]
    mean, _, tokens = charts.strata_panels(found.strata, found.stages)
    for chart, factor, value in ((mean, 100, "mean_at_k"), (tokens, 1, "tokens")):
        lines = [row for _, rows in layers(chart, "line") for row in rows]
        for name, rows in found.strata.items():
            drawn = {row["lam"]: row["value"] for row in lines if row["name"] == name}
            assert drawn == {m.lam: pytest.approx(factor * getattr(m, value).value) for m in rows if m.lam is not None}
        assert len({row["color"] for row in lines}) == 3


def test_both_themes_and_formats_render(found):
    chart = charts.stages_figure(found.metrics, found.stages, "dark", published())
    text = render.svg(chart, "dark")
    for name in ("accent", "muted", "ink", "faint", "shade"):
        assert getattr(THEMES["dark"], name) in text and getattr(THEMES["light"], name) not in text
    for label in ("Performance (%)", "Think #R (% of responses)", "Token #N (tokens per response)", "0 = Instruct"):
        assert label in text
    once, twice = render.png(chart, "dark", scale=1.0), render.png(chart, "dark")
    assert once.startswith(PNG) and int.from_bytes(twice[16:20]) == 2 * int.from_bytes(once[16:20])


def test_text_contrast_is_readable():
    def luminance(color):
        parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    for theme in THEMES.values():
        for color in (theme.ink, theme.muted, *theme.series):
            bright, dim = sorted((luminance(color), luminance(theme.background)), reverse=True)
            assert (bright + 0.05) / (dim + 0.05) >= 4.5, color


def test_labels_are_spread_no_further_than_needed():
    assert spread([10, 50], LINE) == [10, 50]
    assert spread([50, 50, 50], 10) == [40, 50, 60]
    moved = spread([0, 3, 100, 104, 106, HEIGHT], LINE)
    assert all(b - a >= LINE - 1e-9 for a, b in pairwise(moved))
    assert moved[0] == pytest.approx(1.5 - LINE / 2) and moved[-1] == HEIGHT


def test_labels_stay_within_the_frame():
    assert within([-13, 0, 13], LINE, HEIGHT) == [0, LINE, 2 * LINE]
    assert within([40, HEIGHT, HEIGHT + LINE], LINE, HEIGHT) == [40, HEIGHT - LINE, HEIGHT]
    assert within([40, 60], LINE, HEIGHT) == [40, 60]


def test_panels_and_their_titles_start_at_one_height(found):
    """Three labels at 100 %, which stood above the frame, and a panel without a tick label at its top."""
    sure = Estimate(1.0, 0.0)
    full = [replace(m, mean_at_k=sure, pass_at_k=sure, vote_at_k=sure) for m in found.metrics]
    for stages in (found.stages, None):
        text = render.svg(charts.stages_figure(full, stages)).replace("\n", "")
        titles = re.findall(r'role-title"><g transform="translate\([-\d.]+,([-\d.]+)\)"', text)
        assert len(titles) == 3 and len(set(titles)) == 1
        # The page sets the panels side by side as images of their own.
        heights = {render.size(render.svg(panel))[1] for panel in charts.stage_panels(full, stages)}
        assert len(heights) == 1
