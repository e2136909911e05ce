"""Splits a response into thought and answer, and names its kind of thinking.

Works on text that contains the think tags, as Qwen3-style tokenizers decode them; knows no tokenizer. The chat template
may have written `<think>` already, so that the response starts inside the think block.
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

OPEN, CLOSE = "<think>", "</think>"

ThinkingKind = Literal["none", "closed", "pseudo-closed", "unclosed"]

# Tags that models write instead of </think>. Any other tag may be part of the thought or of the answer.
_OTHER_TAG = re.compile(
    r"^\s*</?(tool_call|tool_response|answer|final_answer|response|output|solution)>\s*$", re.MULTILINE
)


class Split(NamedTuple):
    """A response in two parts, without the tags."""

    kind: ThinkingKind
    thought: str
    answer: str
    end: int
    """Number of characters up to the end of the thought, its closing tag included; 0 if there is no thought."""


def split_thinking(text: str, *, finished: bool) -> Split:
    """Split `text` at the end of its thought.

    The kinds are those of Wu et al. 2025 (arXiv 2510.10977), table 6: *closed* has `</think>`; *pseudo-closed* has
    another tag on a line of its own instead, such as `<tool_call>`, after some text; *unclosed* has neither, and was
    cut off (`finished` False) or wrote `<think>` itself; *none* ended by itself without any tag: a direct answer, even
    if the template had written `<think>`. The whole text of an *unclosed* response is thought, its answer is empty.
    """
    opened = text.lstrip().startswith(OPEN)
    body = text.lstrip()[len(OPEN) :] if opened else text
    before = len(text) - len(body)
    if CLOSE in body:
        thought, answer = body.split(CLOSE, 1)
        return Split("closed", thought.strip(), answer.strip(), before + len(thought) + len(CLOSE))
    tag = _OTHER_TAG.search(body)
    if tag and body[: tag.start()].strip():
        return Split("pseudo-closed", body[: tag.start()].strip(), body[tag.end() :].strip(), before + tag.end())
    if opened or not finished:
        return Split("unclosed", body.strip(), "", len(text))
    return Split("none", "", body.strip(), 0)
