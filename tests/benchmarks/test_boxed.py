"""Boxes and integers as models write them."""

import pytest

from mull.benchmarks.graders.boxed import boxed, integer


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("so \\boxed{7}.", ["7"]),
        ("\\boxed{\\frac{1}{2}} and \\boxed{ 3 }", ["\\frac{1}{2}", "3"]),
        ("\\boxed{\\boxed{7}}", ["\\boxed{7}"]),
        ("\\boxed{\\{1,2\\}}", ["\\{1,2\\}"]),
        ("\\boxed{7", []),
        ("\\boxed{never closed, but \\boxed{8}", ["8"]),
        ("\\fbox{9}", ["9"]),
        ("\\boxed 7", []),
        ("", []),
    ],
)
def test_boxes(text, found):
    assert boxed(text) == found


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("70", 70), ("070", 70), ("+70", 70), ("-70", -70), ("−70", -70), ("70.", 70), ("70.0", 70), (" $70$ ", 70),
        ("1,000", 1000), ("1{,}000", 1000), ("1\\,000", 1000), ("1,\\!000", 1000), ("11,\\! 111,\\! 111", 11111111),
        ("1,00", None), ("1000,000", None), ("70.5", None), ("7/1", None), ("seven", None), ("", None),
        ("9" * 5000, None), ("7 \\text{ cm}", None), ("1, 2", None),
    ],
)  # fmt: skip
def test_integers(text, value):
    assert integer(text) == value
