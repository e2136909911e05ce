"""Counts and lists as words."""

from mull.words import counted, listed


def test_counts_agree_with_their_noun():
    assert [counted(n, "question") for n in (0, 1, 2, 2000)] == [
        "0 questions",
        "1 question",
        "2 questions",
        "2,000 questions",
    ]
    assert [counted(n, "tensor is", "tensors are") for n in (1, 3)] == ["1 tensor is", "3 tensors are"]


def test_lists_are_read_aloud():
    assert [listed(names) for names in ([], ["a"], ["a", "b"], ["a", "b", "c"])] == ["", "a", "a and b", "a, b and c"]
    assert listed(["a", "b"], "or") == "a or b"
