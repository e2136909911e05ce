"""Splits a response into thought and answer, and names the kind of its thinking.

Knows nothing of tokenizers: it reads text in which the think tags are visible, as every Qwen3-style tokenizer
decodes them. A template may already have opened the block, so that the response starts inside it.
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

OPEN, CLOSE = "<think>", "</think>"

ThinkingKind = Literal["none", "closed", "pseudo-closed", "unclosed"]

# Tags that models put where </think> belongs. Any other tag may be part of the thought or of the answer.
_OTHER_TAG = re.compile(
    r"^\s*</?(tool_call|tool_response|answer|final_answer|response|output|solution)>\s*$", re.MULTILINE
)


class Split(NamedTuple):
    """A response in two parts, without the tags."""

    kind: ThinkingKind
    thought: str
    answer: str
    end: int
    """Where the thought ends in the text, its closing tag included: characters; 0 where there is no thought."""


def split_thinking(text: str, *, finished: bool) -> Split:
    """Split `text` at the end of its thought.

    The kinds are those of Wu et al. 2025 (arXiv 2510.10977), table 6: *closed* has `</think>`; *pseudo-closed* thinks
    and then puts another tag on a line of its own, such as `<tool_call>`, where `</think>` belongs; *unclosed* has
    neither and was cut off (`finished` False), or opened `<think>` itself and ended all the same; *none* ended by
    itself without any tag: a direct answer, also where a template had opened the block. An *unclosed* response has
    no answer: the whole of it is thought.
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
