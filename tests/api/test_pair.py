"""A pair shows whether it can be mixed and how far apart its sides are."""

import pytest

import mull
from mull.geometry.relative_difference import relative_difference


def test_it_opens_paths_and_says_whether_it_can_be_mixed(two_sides):
    instruct, thinking = two_sides()
    pair = mull.Pair.open(instruct, thinking)
    assert isinstance(pair, mull.Pair) and pair.verdict == "these two can be mixed"
    assert repr(pair).startswith("Pair: instruct × thinking, donor thinking; these two can be mixed")
    assert "<td>warn</td>" in pair._repr_html_()


def test_one_that_cannot_be_mixed_says_why(two_sides):
    pair = mull.Pair.open(*two_sides(thinking={"num_attention_heads": 8}))
    assert "cannot be mixed" in repr(pair) and "  refuse: " in repr(pair)
    with pytest.raises(mull.MullError):
        pair.differences()


def test_foreign_names_are_escaped(two_sides, tmp_path):
    instruct, thinking = two_sides()
    renamed = instruct.rename(tmp_path / "<b>x")
    assert "<b>x" not in mull.Pair.open(renamed, thinking)._repr_html_().replace("<b>&lt;b&gt;x</b>", "")


def test_differences_by_layer_are_those_of_the_measurement(pair):
    found = pair.differences(quiet=True)
    measured = relative_difference(pair)
    assert found.overall == measured.overall
    rows = found.frame.filter(layer=3, module="ffn")
    assert rows["sigma"].to_list() == [measured.cells[3, "ffn"]]
    assert found.frame["layer"].null_count() == sum(layer is None for layer, _ in measured.cells)
    assert f"{measured.cells[3, 'ffn']:.4f}" in repr(found)
    assert "<svg" in found._repr_html_()
