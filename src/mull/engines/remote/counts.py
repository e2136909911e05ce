"""How many tokens a reply took, from the fields in which servers count them.

A count that cannot be true is replaced by one that the other fields give, or refused: token counts are what runs are
compared by.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from mull.engines.remote.refusals import RequestRefused
from mull.errors import MullError

LARGEST = 10**9
"""Tokens. No response has more."""
MARGIN, MARGIN_SHARE = 16, 0.05
"""By how many tokens, and by which share, a count may lie above the limit: some servers draw several at once."""
WORDS_PER_TOKEN, CHARACTERS_PER_TOKEN = 8, 128
"""No response has tokens of so many words or characters on average. Most tokens hold one word or less."""


class Counts(NamedTuple):
    """Tokens of one reply."""

    tokens: int
    """Generated, thought included."""
    prompt: int | None
    thought: int | None


def read_counts(reply: dict[str, Any], text: str, limit: int | None = None) -> Counts:
    """The counts of a reply whose thought and answer are `text`, sampled with room for `limit` tokens.

    Some servers leave the thought out of completion_tokens (xAI, proxies of Gemini): there the total shows it.

    Raises:
        MullError: the reply counts nothing, so that responses cannot be compared.
        RequestRefused: no count in it can be true.
    """
    usage = _table(reply.get("usage")) or _table(_table(reply.get("x_groq")).get("usage"))
    details = _table(usage.get("completion_tokens_details")) or _table(usage.get("output_tokens_details"))
    told = _count(usage.get("completion_tokens", usage.get("output_tokens")))
    prompt = _count(usage.get("prompt_tokens", usage.get("input_tokens"))) or None  # no prompt has 0
    total = _count(usage.get("total_tokens"))
    thought = _count(details.get("reasoning_tokens", usage.get("reasoning_tokens")))
    rest = total - prompt if total is not None and prompt is not None and total >= prompt else None
    timed = _count(_table(reply.get("timings")).get("predicted_n"))  # llama.cpp

    candidates = [told, rest, timed]
    if told is not None and rest is not None and rest > told:
        candidates = [rest, told, timed]
    given = [count for count in candidates if count is not None]
    if not given:
        raise MullError("the server's replies hold no usage.completion_tokens", "turn its token counts on")
    reasons = [_untrue(count, thought or 0, text, limit) for count in given]
    if all(reasons):
        raise RequestRefused(f"the server counts {given[0]:,} tokens, which cannot be true: {reasons[0]}")
    return Counts(given[reasons.index("")], prompt, thought)


def _untrue(count: int, thought: int, text: str, limit: int | None) -> str:
    """Why a response cannot have `count` tokens; empty if it can."""
    words, characters = len(text.split()), sum(map(len, text.split()))
    if count < thought:
        return f"{thought:,} of them would be reasoning"
    if words > WORDS_PER_TOKEN * count or characters > CHARACTERS_PER_TOKEN * count:
        return f"the response has {words:,} words of {characters:,} characters"
    if limit is not None and count > limit + max(MARGIN, MARGIN_SHARE * limit):
        return f"the limit was {limit:,}"
    return ""


def _table(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _count(value: object) -> int | None:
    """`value` if it is a number of tokens, else None."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= LARGEST:
        return None
    return int(value) if value == int(value) else None
