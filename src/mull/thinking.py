"""Splits a response into thought and answer, and names its kind of thinking.

Knows the delimiters between which the model families write their thought (their sources: docs/thinking.md), and works
on text that contains them; knows no tokenizer. The chat template may have written the opening delimiter already, so
that the response starts inside the thought.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Collection, Iterable, Sequence
from typing import Literal, NamedTuple

OPEN, CLOSE = "<think>", "</think>"

ThinkingKind = Literal["none", "closed", "forced", "pseudo-closed", "unclosed"]


class ThinkTags(NamedTuple):
    """The delimiters of a thought. Each may be several tokens long."""

    open: str
    close: str

    def __str__(self) -> str:
        return f"{self.open} … {self.close}"


PLAIN = (ThinkTags(OPEN, CLOSE),)
WORDED = (
    ThinkTags("analysis", "assistantfinal"),  # gpt-oss, from a server that drops special tokens
    *(
        ThinkTags(f"{begin} my thought process:", f"{end} my response:")  # Granite 3.2
        for begin in ("Here is", "Here's")
        for end in ("Here is", "Here's")
    ),
)
"""Delimiters that are plain words. They count only where the response begins with the first and has the second."""
KNOWN = (
    *PLAIN,  # Qwen3, DeepSeek, GLM, Kimi K2, MiniMax, Nemotron, OLMo 3 and most others
    ThinkTags("[THINK]", "[/THINK]"),  # Magistral, Ministral 3
    ThinkTags("<seed:think>", "</seed:think>"),  # Seed-OSS
    ThinkTags("<|channel>thought", "<channel|>"),  # Gemma 4
    ThinkTags("<|channel|>analysis<|message|>", "<|end|><|start|>assistant<|channel|>final<|message|>"),  # gpt-oss
    ThinkTags("<|channel|>analysis<|message|>", "<|channel|>final<|message|>"),
    ThinkTags("<thought>", "</thought>"),  # EXAONE Deep
    ThinkTags("◁think▷", "◁/think▷"),  # Kimi-VL-Thinking
    ThinkTags("<|open|>think<|sep|>", "<|close|>think<|sep|>"),  # Kimi K3
    ThinkTags("<|inner_prefix|>", "<|inner_suffix|>"),  # Apertus
    ThinkTags("<|START_THINKING|>", "<|END_THINKING|>"),  # Command A
    ThinkTags("<|begin_of_thought|>", "<|end_of_thought|>"),  # OpenThinker, Sky-T1
    ThinkTags("<|think:start|>", "<|think:end|>"),  # Solar Open 2
    ThinkTags("<think:opensource>", "</think:opensource>"),  # Hunyuan 3
    ThinkTags("<longcat_think>", "</longcat_think>"),  # LongCat-Flash-Thinking
    ThinkTags("<mm:think>", "</mm:think>"),  # MiniMax M3
    ThinkTags("[unused16]", "[unused17]"),  # openPangu
    ThinkTags("<reasoning>", "</reasoning>"),  # Reka Flash 3
    ThinkTags("<thinking>", "</thinking>"),  # Reflection
    ThinkTags("<Thought>", "</Thought>"),  # Marco-o1
    *WORDED,
)
"""Of all families."""

# Tags that models write instead of a closing delimiter. Any other tag may be part of the thought or of the answer.
_OTHER_TAG = re.compile(
    r"^[^\S\n]*</?(tool_call|tool_response|answer|final_answer|response|output|solution)>[^\S\n]*$", re.MULTILINE
)
ANSWER_TAGS = (
    ThinkTags("<answer>", "</answer>"),  # Hunyuan
    ThinkTags("<response>", "</response>"),  # ERNIE, Granite 3.3
    ThinkTags("<Output>", "</Output>"),  # Marco-o1
    ThinkTags("<|begin_of_solution|>", "<|end_of_solution|>"),  # OpenThinker
    ThinkTags("<|START_RESPONSE|>", "<|END_RESPONSE|>"),  # Command A
    ThinkTags("<|START_TEXT|>", "<|END_TEXT|>"),
    ThinkTags("<|open|>response<|sep|>", "<|close|>response<|sep|>"),  # Kimi K3
)
"""Between these some families write their answer after a thought."""
TURN_ENDS = ("<|end|>", "<|return|>", "<|start|>assistant", "<|close|>message<|sep|>")
# Patterns are written so that texts of 100,000 empty or equal lines take no longer than others.
_INLINE_CODE = re.compile(r"(?<![\w`])(`+)(?=\S)[^`\n]{1,200}?(?<=\S)\1(?!`)")
_FENCE = re.compile(r"^ {0,3}(```+|~~~+)([^\n]*)$", re.MULTILINE)


class Split(NamedTuple):
    """A response in two parts, without the delimiters."""

    kind: ThinkingKind
    thought: str
    answer: str
    end: int
    """Number of characters up to the end of the thought, its closing delimiter included; 0 if there is none."""
    tail: int
    """Where a thought after the answer begins; the length of the text if there is none."""


def split_thinking(text: str, *, finished: bool, tags: Sequence[ThinkTags] = KNOWN) -> Split:
    """Split `text` into thought and answer. The answer is what stands after the last thought or, where nothing does,
    before it; no text inside a thought or before the last closing delimiter belongs to it.

    `finished`: the response ended by itself, not at the token limit. `tags`: the delimiters that may occur. A response
    has those of one family; all others in it are plain text.

    The kinds are those of Wu et al. 2025 (arXiv 2510.10977), table 6: *closed* has the closing delimiter, such as
    `</think>`; *pseudo-closed* has another tag on a line of its own instead, such as `<tool_call>`, after some text;
    *unclosed* has neither, and was cut off (`finished` False) or opened a thought itself; *none* ended by itself
    without any: a direct answer, even if the template had opened the thought. An *unclosed* response has no answer,
    unless it ended by itself and opened the thought after an answer. *forced*, closed by a thinking budget, is never
    found here: the text does not show it, so the engine tells it.
    """
    own, opened = family_of(text, tags)
    marks = marks_in(text, own)
    body = marks[0].end if opened else 0
    if any(mark.closes for mark in marks):
        return _closed(text, body, marks, inside=opened or marks[0].closes)
    tag = _OTHER_TAG.search(text, body)
    if tag and text[body : tag.start()].strip():
        tail = next((mark.start for mark in marks if mark.start >= tag.end() and not is_mention(text, mark)), len(text))
        thought, answer = text[body : tag.start()].strip(), text[tag.end() : tail].strip()
        return Split("pseudo-closed", thought, answer, tag.end(), tail)
    if opened or not finished:
        return Split("unclosed", text[body:].strip(), "", len(text), len(text))
    late = next((mark for mark in marks if not is_mention(text, mark)), None)
    if late is not None:
        return Split("unclosed", text[late.end :].strip(), _bare(text[: late.start]), 0, late.start)
    return Split("none", "", _bare(text), 0, len(text))


def named_tags(templates: Iterable[str], tokens: Collection[str]) -> tuple[ThinkTags, ...]:
    """Those of the known delimiters that a model's chat templates contain or its `tokens` make up; may be empty."""
    written = list(templates)

    def is_named(delimiter: str) -> bool:
        pieces = re.findall(r"<\|?\w+\|?>", delimiter)  # of a delimiter that is several tokens long
        whole = delimiter in tokens or any(delimiter in template for template in written)
        return whole or (bool(pieces) and all(piece in tokens for piece in pieces))

    def are_named(tags: ThinkTags) -> bool:
        if tags in WORDED:
            return any(tags.open in template and tags.close in template for template in written)
        return is_named(tags.open) or is_named(tags.close)

    return tuple(tags for tags in KNOWN if are_named(tags))


def without_closing(thought: str, tags: Sequence[ThinkTags]) -> str:
    """`thought` without the closing delimiter, or the tag in its place, with which it ends."""
    bare = thought.rstrip()
    closing = max((each.close for each in tags if bare.endswith(each.close)), key=len, default="")
    if closing:
        return bare.removesuffix(closing)
    other = next((found for found in _OTHER_TAG.finditer(bare) if found.end() == len(bare)), None)
    return thought[: other.start()] if other else thought


class Mark(NamedTuple):
    """A delimiter in a text."""

    start: int
    end: int
    closes: bool


def family_of(text: str, tags: Sequence[ThinkTags]) -> tuple[list[ThinkTags], bool]:
    """The delimiters of the family that wrote this response, and whether it begins with an opening one.

    Where it does not, the template may have opened the thought: the family is that of the first closing delimiter,
    preferably one without its opening one before it.
    """
    begins = text.lstrip()
    only_worded = all(each in WORDED for each in tags)
    opening = [t for t in tags if begins.startswith(t.open) and (t not in WORDED or t.close in text or only_worded)]
    if opening:
        longest = max(len(each.open) for each in opening)
        return [each for each in opening if len(each.open) == longest], True
    places: list[tuple[bool, bool, int, ThinkTags]] = []
    for each in tags:
        marks = marks_in(text, [each]) if each not in WORDED and (each.open in text or each.close in text) else []
        if marks:
            closing = next((mark for mark in marks if mark.closes), None)
            places.append((closing is None, not marks[0].closes, (closing or marks[0]).start, each))
    if not places:
        return [], False
    first = min(places)[-1]
    return [each for each in tags if first.open == each.open or first.close == each.close], False


def marks_in(text: str, tags: Sequence[ThinkTags]) -> list[Mark]:
    """All delimiters in `text` that are not quoted."""
    if not tags:
        return []
    closing = {each.close for each in tags}
    longest_first = sorted(closing | {each.open for each in tags}, key=len, reverse=True)
    code = [found.span() for found in _INLINE_CODE.finditer(text)] if "`" in text else []
    return [
        Mark(found.start(), found.end(), found.group() in closing)
        for found in re.finditer("|".join(map(re.escape, longest_first)), text)
        if not _is_quoted(text, found) and not _is_inside(code, found.start())
    ]


def _is_quoted(text: str, found: re.Match[str]) -> bool:
    """Whether quotation marks stand round the delimiter, the first of them not at the end of a word."""
    before, after = text[max(0, found.start() - 2) : found.start()], text[found.end() : found.end() + 1]
    opens = before[-1:] in tuple("\"'“‘«「") and not (before[:-1].isalnum() or before[:-1] in tuple("\"'"))
    return opens and after in tuple("\"'”’»」")


def _is_inside(spans: list[tuple[int, int]], place: int) -> bool:
    before = bisect_right(spans, place, key=lambda span: span[0])
    return before > 0 and place < spans[before - 1][1]


def is_mention(text: str, mark: Mark) -> bool:
    """Whether an opening delimiter stands in a sentence as a word does."""
    line = text[text.rfind("\n", 0, mark.start) + 1 : mark.start]
    return bool(line.strip()) and line[-1].isspace() and text[mark.end : mark.end + 1] in tuple(" ,.;:!?)")


def _closed(text: str, body: int, marks: list[Mark], *, inside: bool) -> Split:
    """`inside`: the text begins inside a thought, at `body`."""
    first = next(mark for mark in marks if mark.closes)
    if first is marks[0] and not _without_turn_end(text[: first.start]) and text[: first.end].endswith("<|message|>"):
        marks = marks[1:]  # a channel for the answer, which opens it rather than closing a thought
        if not marks:
            return Split("none", "", _bare(text[first.end :]), 0, len(text))
        inside, body = False, first.end
    code = _fenced(text, first.end)
    marks = [mark for mark in marks if not _is_inside(code, mark.start)]
    answers: list[tuple[int, int]] = []
    begin = body
    for mark in marks:
        if mark.closes:
            if not inside:  # what stands before a closing delimiter is thought, even without an opening one
                answers.clear()
            inside, begin = False, mark.end
        elif not inside:
            answers.append((begin, mark.start))
            inside = True
    if not inside:
        answers.append((begin, len(text)))
    end, tail = next((a for a in reversed(answers) if text[a[0] : a[1]].strip()), answers[-1])
    before = [mark for mark in marks if mark.end <= end]
    after = [mark for mark in marks if mark.start >= tail]
    thoughts = [text[body : before[-1].start].strip()] if before else []
    if after:
        stop = after[-1].start if after[-1].closes else len(text)
        thoughts.append(text[after[0].end : stop].strip())
    answer = _bare(text[end:tail], closed=True)
    return Split("closed", "\n\n".join(thoughts), answer, end if before else 0, tail)


def _fenced(text: str, begin: int) -> list[tuple[int, int]]:
    """Where the blocks of code are from `begin` on that have an end."""
    blocks: list[tuple[int, int]] = []
    fence, start = "", 0
    for line in _FENCE.finditer(text, begin):
        before, fence = fence, fence_after(fence, line[0])
        if not before:
            start = line.start()
        elif not fence:
            blocks.append((start, line.end()))
    return blocks


def fence_after(fence: str, line: str) -> str:
    """The fence of the block of code in which the text is after `line`, "" outside; before it, it was `fence`."""
    found = _FENCE.match(line)
    if found is None:
        return fence
    if not fence:
        return found[1]
    return "" if found[1].startswith(fence) and not found[2].strip() else fence


def _without_turn_end(text: str) -> str:
    text = text.strip()
    while (end := next((each for each in TURN_ENDS if text.endswith(each)), None)) is not None:
        text = text.removesuffix(end).rstrip()
    return text


def _bare(answer: str, *, closed: bool = False) -> str:
    """The answer without the tags that a family writes round it. After a `closed` thought the second may be missing."""
    answer = _without_turn_end(answer)
    for tags in ANSWER_TAGS:
        if answer.startswith(tags.open) and (closed or answer.endswith(tags.close)):
            answer = answer.removeprefix(tags.open).removesuffix(tags.close).strip()
    return answer
