"""The four kinds of thinking, told apart as in the interpolation paper's table 6."""

import pytest

from mull.thinking import split_thinking


@pytest.mark.parametrize(
    ("text", "finished", "kind", "thought", "answer"),
    [
        ("2+2=4\n</think>\n\nIt is 4.", True, "closed", "2+2=4", "It is 4."),
        ("<think>\n2+2=4\n</think>\n\nIt is 4.", True, "closed", "2+2=4", "It is 4."),
        ("a</think>b</think>c", True, "closed", "a", "b</think>c"),
        ("2+2=4\n</think>\n\nIt is", False, "closed", "2+2=4", "It is"),
        ("It is 4.", True, "none", "", "It is 4."),
        ("", True, "none", "", ""),
        ("if a < b and b > c then 4", True, "none", "", "if a < b and b > c then 4"),
        ("<tool_call>\nsearch", True, "none", "", "<tool_call>\nsearch"),
        ("I wonder.\n<tool_call>\nIt is 4.", True, "pseudo-closed", "I wonder.", "It is 4."),
        ("I wonder.\n</answer>\nIt is 4.", True, "pseudo-closed", "I wonder.", "It is 4."),
        ("It is 4. In HTML:\n<div>\n4", True, "none", "", "It is 4. In HTML:\n<div>\n4"),
        ("use\n<h1>\nmaybe 12? no", False, "unclosed", "use\n<h1>\nmaybe 12? no", ""),
        ("<think>I wonder", False, "unclosed", "I wonder", ""),
        ("<think>I wonder.", True, "unclosed", "I wonder.", ""),
        ("I wonder and wonder", False, "unclosed", "I wonder and wonder", ""),
    ],
)
def test_kind_thought_and_answer(text, finished, kind, thought, answer):
    split = split_thinking(text, finished=finished)
    assert split[:3] == (kind, thought, answer)
    assert text[split.end :].strip() == answer, "what follows the thought is the answer"
    assert split.thought in text[: split.end]
