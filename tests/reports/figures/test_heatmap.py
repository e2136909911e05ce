from __future__ import annotations

import re

import pytest

from mull.errors import MullError
from mull.folders import write_atomically
from mull.geometry.relative_difference import RelativeDifference
from mull.reports.figures.heatmap import OUTSIDE, heatmap, write_heatmap
from mull.reports.figures.render import inline_svg


@pytest.fixture
def small():
    cells = {(layer, kind): 0.01 * (layer + 1) for layer in range(3) for kind in ("attention", "ffn")}
    return RelativeDifference(0.0269, {**cells, (None, "embedding"): 0.02})


def test_every_cell_stands_once(small):
    spec = heatmap(small).to_dict()
    rows = spec["data"]["values"]
    drawn = {(None if row["layer"] == OUTSIDE else int(row["layer"]), row["module"]): row["sigma"] for row in rows}
    assert drawn == small.cells and len(rows) == len(small.cells)
    assert "0.0269" in spec["title"]["text"]
    x = spec["layer"][0]["encoding"]["x"]
    assert x["scale"]["domain"] == ["0", "1", "2", OUTSIDE]
    assert spec["layer"][0]["encoding"]["y"]["scale"]["domain"] == ["attention", "ffn", "embedding"]


def test_values_stand_in_cells_that_have_room(small):
    many = RelativeDifference(0.1, {(layer, "ffn"): 0.1 for layer in range(64)})
    assert [layer["mark"]["type"] for layer in heatmap(small).to_dict()["layer"]] == ["rect", "text"]
    assert [layer["mark"]["type"] for layer in heatmap(many).to_dict()["layer"]] == ["rect"]


def test_files(small, tmp_path):
    write_heatmap(small, tmp_path / "sigma.png")
    assert (tmp_path / "sigma.png").read_bytes().startswith(b"\x89PNG")
    write_heatmap(small, tmp_path / "sigma.svg")
    assert "<svg" in (tmp_path / "sigma.svg").read_text() and "0.030" in (tmp_path / "sigma.svg").read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["sigma.png", "sigma.svg"]
    with pytest.raises(MullError, match="cannot write"):
        write_heatmap(small, tmp_path / "none" / "sigma.png")
    with pytest.raises(MullError, match="neither PNG nor SVG"):
        write_heatmap(small, tmp_path / "sigma.pdf")


@pytest.mark.parametrize("cells", [{}, {(None, "other"): 0.0}, {(0, "ffn"): 0.0}])
def test_equal_or_empty_checkpoints_draw(cells, tmp_path):
    write_heatmap(RelativeDifference(0.0, cells), tmp_path / "sigma.svg")
    assert "NaN" not in (tmp_path / "sigma.svg").read_text()


def test_two_figures_of_a_page_share_no_id(small):
    ids = []
    for variant in ("light", "dark"):
        text = inline_svg(heatmap(small), variant, name=variant, label='σ "by" <layer>')
        own = re.findall(r'\bid="([^"]+)"', text)
        assert own and set(re.findall(r"url\(#([^)]+)\)", text)) <= set(own)
        assert "url(#" in text and 'aria-label="σ &#34;by&#34; &lt;layer&gt;"' in text
        ids += own
    assert len(ids) == len(set(ids))


def test_a_file_that_cannot_be_replaced_leaves_nothing_behind(tmp_path):
    (tmp_path / "target").mkdir()
    (tmp_path / "target" / "kept").write_text("")
    with pytest.raises(MullError, match="cannot write"):
        write_atomically(tmp_path / "target", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["target"]
