"""Stop strings: the same cut wherever the pieces of the text begin."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mull.engines.local.streaming.stops import StopStrings


def read(stops, pieces):
    stream = StopStrings(stops)
    text = "".join(stream.push(piece) for piece in pieces) + stream.finish()
    return text, stream.found


@pytest.mark.parametrize(
    "stops, text, expected",
    [
        (["\n\n"], "one\ntwo\n\nthree", ("one\ntwo", "\n\n")),
        (["END", "ND"], "the END.", ("the ", "END")),
        (["xabyz", "ab"], "xabyz", ("x", "ab")),
        (["stop"], "no sto", ("no sto", None)),
        (["aab"], "aaab", ("a", "aab")),
        ([], "all", ("all", None)),
        (["é"], "é", ("", "é")),
    ],
)
def test_by_hand(stops, text, expected):
    assert read(stops, [text]) == expected
    assert read(stops, list(text)) == expected


@given(st.lists(st.text("ab", min_size=1, max_size=4), min_size=1, max_size=4), st.lists(st.text("abc", max_size=5)))
def test_pieces_make_no_difference(stops, pieces):
    whole = "".join(pieces)
    found = read(stops, pieces)
    assert found == read(stops, [whole])
    # By another way: the shortest beginning of the text that ends with a stop string.
    first = next((n for n in range(len(whole) + 1) if any(whole[:n].endswith(stop) for stop in stops)), None)
    if first is None:
        assert found == (whole, None)
    else:
        longest = max((stop for stop in stops if whole[:first].endswith(stop)), key=len)
        assert found == (whole[: first - len(longest)], longest)


def test_only_what_may_be_a_beginning_is_held_back():
    stream = StopStrings(["STOP"])
    assert [stream.push(piece) for piece in ("a S", "T", "x", "S", "TOP", "more")] == ["a ", "", "STx", "", "", ""]
