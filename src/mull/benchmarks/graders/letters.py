"""Finds the letter of a multiple-choice answer. Knows no gold answer."""

from __future__ import annotations

import re
import string

from mull.benchmarks.base import Question
from mull.benchmarks.graders.boxed import without_long_gaps
from mull.benchmarks.graders.typography import folded

USUAL = "ABCD"
"""The letters of a question whose options are not known."""

_LABEL = re.compile(r"^[ \t]*\(?([A-Z])[).:][ \t]", re.MULTILINE)
_WORD_GOES_ON = r"(?![\w'’+#]|-\w)"
_STRICT = re.compile(rf"(?i:ANSWER)\s*:\s*([A-Za-z]){_WORD_GOES_ON}")

_TAGS = re.compile(r"</?(?:b|i|u|em|strong|code|span|div|p|mark|sub|sup)(?:\s[^<>]*)?>", re.IGNORECASE)
_ANSWER_TAG = re.compile(r"<(/?)answer>", re.IGNORECASE)
_FONT = re.compile(
    r"\\(?:text(?:bf|it|rm|sf|tt|normal|color\s*\{\w+\})?|math(?:bf|rm|it|sf|cal|bb|tt)|mbox|hbox|bm|boldsymbol|underline"
    r"|operatorname|color\s*\{\w+\}|bf|rm|it|Large|large|huge|left|right|displaystyle|quad|,|;|!|:| )(?![A-Za-z])"
)
_BOX = re.compile(r"\\f?boxed\s*|\\fbox\s*")
_DECOR = str.maketrans(dict.fromkeys('{}$*`_~"“”„«»【】「」『』', " ") | dict.fromkeys("’‘", "'"))

_ONE = r"[(\[<'\s]{0,9}([A-Z])[)\]>']*"
_ALONE = rf"{_WORD_GOES_ON}(?!\s*(?:,|/|&|\band\b|\bor\b)\s*\(?[A-Z]\)?{_WORD_GOES_ON})"
_ARTICLE = r"(?!(?<=[AI])[ \t]+(?!(?:because|since|as|is|was|with|due|for|and|or|but)\b)[a-z])"
_LETTER = _ONE + _ALONE + _ARTICLE
_SMALL = r"[(\[\s]*([a-z])(?=[ )\].,]*$|\)|\.\s)"
_OPTION = r"\s*(?:(?:the\s+)?(?:correct\s+)?(?:option|choice|letter|answer)(?:\s+is)?\s*:?\s*)?"
_ROBUST = (
    rf"(?i:\b(?:answer|ans|solution|choice)\s*(?:[:=]|->|→){_OPTION})(?:{_LETTER}|(?m:{_SMALL}))"
    rf"|答案\s*(?:是|为|:)?\s*{_LETTER}",
    rf"\x00(?i:{_OPTION}){_ONE}{_ALONE}(?!\s*[=<>^(+/\d-])",
    rf"(?i:\b(?:answer|option|choice|letter)\s+(?:is|would be|must be|should be)(?:\s+(?:therefore|thus|clearly))?\s*:?"
    rf"{_OPTION}){_LETTER}",
    rf"(?i:\b(?:choose|select|pick|go with){_OPTION}){_LETTER}"
    rf"|(?<![\w']){_ONE}{_ALONE}\s+is\s+(?:the\s+)?(?:correct|right|best)\b",
    rf"(?im:\banswer\s*:?\s*\n\s*){_ONE}(?=[).:]|[ \t]*$)|(?i:\b(?:answer|option|choice)\s+){_ONE}(?=\s*\.?\s*\Z)",
    rf"(?m)^[\s#]*{_ONE}[ \t]*[.:]?[ \t]*$",
)
"""Ways to give a letter, the most explicit first. A box begins with NUL."""
_PATTERNS = [re.compile(pattern) for pattern in _ROBUST]
_OPTION_LINE = re.compile(r"(?m)^\s*\(?([A-Z])[).:]\s+\S")


def letters(question: Question) -> str:
    """The letters of the question's options: as many as lines begin with A), B) … in its text, or else `USUAL`."""
    labels, count = _LABEL.findall(question.text), 0
    for label in labels:
        count += label == string.ascii_uppercase[count : count + 1]
    return string.ascii_uppercase[:count] if count > 1 else USUAL


def apart(question: Question) -> tuple[str, str]:
    """The question's text before its options, and the options; empty if it has none."""
    first = next((label.start() for label in _LABEL.finditer(question.text) if label[1] == "A"), None)
    if first is None or "B" not in _LABEL.findall(question.text, first):
        return question.text, ""
    return question.text[:first].rstrip(), question.text[first:].strip()


def strict_letter(answer: str, allowed: str = USUAL) -> str:
    """The letter of the first "ANSWER: X", upper or lower case, that is no part of a word; empty if there is none."""
    found = (match.group(1).upper() for match in _STRICT.finditer(answer))
    return next((letter for letter in found if letter in allowed), "")


def robust_letter(answer: str, allowed: str = USUAL) -> str:
    """The last letter that is given as the answer, however it is decorated; empty if there is none.

    First "Answer: X" counts, then a box, then "the answer is X", "option X is correct" and the like, then a line with
    nothing but a letter. A letter that begins a word, an article and "A or B" are no answer.
    """
    text = without_long_gaps(folded(answer))
    text = _ANSWER_TAG.sub(lambda tag: "\n" if tag[1] else "\nanswer: ", _TAGS.sub(" ", text))
    text = _FONT.sub(" ", _BOX.sub("\x00", text)).translate(_DECOR)
    text = re.sub(r"\\[()\[\]]", " ", text)
    text = without_long_gaps(re.sub(r"(?<=[:=])[ \t]*\x00", " ", text))
    for pattern in _PATTERNS:
        found = [next(filter(None, match.groups())).upper() for match in pattern.finditer(text)]
        if given := [letter for letter in found if letter in allowed]:
            return given[-1]
    repeated = [letter for letter in _OPTION_LINE.findall(text) if letter in allowed]
    return repeated[0] if len(repeated) == 1 else ""
