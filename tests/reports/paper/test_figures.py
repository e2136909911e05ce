"""The figures show the metrics, their intervals, the stages and the published values, and nothing twice."""

import math

import altair as alt
import pytest

from mull.analysis.metrics import Estimate
from mull.analysis.stages import stages_of_samples
from mull.engines.base import Sampling
from mull.merging.coefficients import Coefficients
from mull.reports.figures.render import inline_svg, svg
from mull.reports.paper.figures import Swept, ablation_figure, color_range, decoding_figure, dynamics_figure
from mull.reports.paper.runs import open_runs
from mull.runs.paper import studies
from mull.runs.paper.published import published_sweep
from mull.runs.settings import Setting

from .conftest import NAMES


def marks(chart, kind):
    """All rows drawn with one kind of mark, with the mark's own properties."""
    spec = chart.to_dict()
    data = spec.get("datasets", {})
    found = []

    def walk(node, above):
        own = node.get("data", above)  # what all layers share, altair hoists
        for part in ("vconcat", "hconcat", "layer"):
            for child in node.get(part, []):
                walk(child, own)
        if "mark" in node and node["mark"]["type"] == kind:
            found.append((node["mark"], own.get("values") or data[own["name"]]))

    walk(spec, None)
    return found


def lines(chart, *, dashed):
    return [row for mark, rows in marks(chart, "line") if ("strokeDash" in mark) == dashed for row in rows]


@pytest.fixture(scope="module")
def swept(like_the_paper):
    arenas = open_runs(like_the_paper).arenas
    found = [stages_of_samples([s for s in arena.samples if s.lam is not None]) for arena in arenas]
    return [Swept(a, stages, published_sweep(a.benchmark)) for a, stages in zip(arenas, found, strict=True)]


def test_dynamics_show_every_benchmark_and_the_published_curves(swept):
    chart = dynamics_figure(swept)
    grid = chart.to_dict()["vconcat"][1]["hconcat"]
    assert [column["vconcat"][0]["title"]["text"] for column in grid] == [
        "AIME’25 (k = 64)",
        "IFEval (k = 8)",
        "GPQA-Diamond (k = 8)",
    ]
    own, theirs = lines(chart, dashed=False), lines(chart, dashed=True)
    # Mean, Pass, Think #R, Token #N at 9 λ; on GPQA Vote too. Published on GPQA: Vote, not Pass.
    assert len(own) == 9 * (4 + 4 + 5) and len(theirs) == 9 * (4 + 4 + 4)
    at = {(row["name"], row["lam"]): row["value"] for row in own if row["value"] > 1000}
    assert at["Token #N", 0.8] in (17574, 1556, 8427)
    published = {(row["name"], row["lam"]): row["value"] for row in theirs}
    assert published["published mean_at_k aime25", 0.8] == pytest.approx(80.5)
    assert published["published vote_at_k gpqa_diamond", 0.8] == pytest.approx(70.2)
    # The published stage 2 of all three, in each of the nine panels.
    assert [rows for _, rows in marks(chart, "rect")] == [[{"start": 0.4, "end": 0.6}]] * 9
    plain = dynamics_figure(swept, overlay=False)
    assert lines(plain, dashed=True) == [] and "published" not in str(plain.to_dict())


def test_dynamics_fit_the_width_of_print(swept):
    text = svg(dynamics_figure(swept))
    assert "NaN" not in text
    width = float(text.split('width="')[1].split('"')[0])
    # 11 pixels at 16 cm are at least 7 points.
    assert 11 / width * 16 / 2.54 * 72 >= 7


def test_on_another_benchmark_nothing_published_is_shown(run, answers, tmp_path):
    grid = [Setting.of(Coefficients.scalar(lam)) for lam in (0.0, 1.0)]
    samples = [s for lam in (0.0, 1.0) for s in answers(f"{lam:g}", lam, [1, 1, 0], 2, think=lam)]
    (arena,) = open_runs([run(tmp_path / "run", grid, samples)]).arenas
    figure = dynamics_figure([Swept(arena, None, [])])
    assert lines(figure, dashed=True) == [] and "published" not in str(figure.to_dict())


def test_published_values_lie_within_the_axes(run, answers, tmp_path):
    grid = [Setting.of(Coefficients.scalar(lam)) for lam in (0.0, 1.0)]
    samples = [s for lam in (0.0, 1.0) for s in answers(f"{lam:g}", lam, [0, 0, 0], 2, benchmark="aime25")]
    (arena,) = open_runs([run(tmp_path / "run", grid, samples, benchmark="aime25")]).arenas
    chart = dynamics_figure([Swept(arena, None, published_sweep("aime25"))])
    domains = {
        tuple(layer["encoding"]["y"]["scale"]["domain"])
        for panel in chart.to_dict()["vconcat"][1]["hconcat"][0]["vconcat"]
        for layer in panel["layer"]
        if layer["mark"]["type"] == "line"
    }
    accuracy, think, tokens = sorted(domains, key=lambda domain: domain[1])
    assert 93.3 <= accuracy[1] < 100 and think == (0, 100) and tokens[1] >= 22813


@pytest.fixture
def layers(run, answers, tmp_path):
    def write(benchmark):
        settings = studies.layer_settings(0.8, NAMES)
        samples = [
            s for x in settings for s in answers(x.label, None, [2, 1, 0], 2, benchmark=benchmark, tokens=50, think=0.5)
        ]
        return open_runs([run(tmp_path / benchmark, settings, samples, benchmark=benchmark)]).runs[0]

    return write


def test_ablations_show_points_intervals_and_published_values(layers):
    chart = ablation_figure(layers("aime25"))
    panels = chart.to_dict()["vconcat"][0]["hconcat"]
    assert [panel["title"]["text"] for panel in panels] == ["Mean@2 (%)", "Think #R (%)", "Token #N"]
    points = [rows for mark, rows in marks(chart, "point") if mark["filled"]]
    assert [row["label"] for row in points[0]][:3] == ["all layers", "[0, 11]", "[12, 23]"]
    # 2, 1 and 0 of 2 right: 50 ± 28.9, ±1.96 of it within 0–100.
    assert points[0][0]["value"] == 50
    assert points[0][0]["low"] == pytest.approx(max(0, 50 - 196 * math.sqrt(1 / 12)), abs=1e-6)
    hollow = [rows for mark, rows in marks(chart, "point") if not mark["filled"] and "value" in rows[0]]
    assert [{r["label"]: r["value"] for r in rows}["[0, 11]"] for rows in hollow] == pytest.approx([42.5, 0, 32151])
    elsewhere = ablation_figure(layers("sums"))
    assert not [rows for mark, rows in marks(elsewhere, "point") if not mark["filled"] and "value" in rows[0]]
    assert "published" not in str(elsewhere.to_dict())
    assert "published" not in str(ablation_figure(layers("gpqa"), overlay=False).to_dict())


def test_noise_does_not_look_like_a_pattern(run, answers, tmp_path):
    assert color_range([Estimate(0.60, 0.05), Estimate(0.62, 0.05)]) == pytest.approx((51, 71))
    assert color_range([Estimate(0.2, 0.01), Estimate(0.6, 0.01)]) == pytest.approx((20, 60))
    assert color_range([Estimate(0.5, math.nan)]) == pytest.approx((49.5, 50.5))
    settings = studies.decoding_settings(0.4, Sampling(), [0.6, 0.7], [0.8, 0.95])
    samples = [s for i, x in enumerate(settings) for s in answers(x.label, None, [2, i > 1, 0], 2)]
    chart = decoding_figure(open_runs([run(tmp_path / "d", settings, samples)]).runs[0])
    cells = {(row["t"], row["p"]): row["text"] for row in marks(chart, "rect")[0][1]}
    assert cells == {("0.6", "0.8"): "33.3", ("0.6", "0.95"): "33.3", ("0.7", "0.8"): "50.0", ("0.7", "0.95"): "50.0"}


def test_an_inline_figure_takes_any_name():
    """Its name stands in the ids of the SVG, and is no template and no markup there."""
    chart = alt.Chart(alt.Data(values=[{"x": 1}])).mark_point(clip=True).encode(x="x:Q")
    text = inline_svg(chart, "light", name='a\\d\\1"<', label="x")
    own = "a\\d\\1&#34;&lt;"
    assert f'id="{own}-clip' in text and f"url(#{own}-clip" in text
