"""How a model is made to answer at once: text after its prompt that closes the thought and begins the answer."""

from __future__ import annotations

import math
from collections.abc import Sequence

from mull.benchmarks import AnswerForm
from mull.thinking import ThinkTags

MOST_TOKENS = 20
"""Of a forced answer (after DEER, arXiv 2504.15895)."""


def most_tokens(form: AnswerForm) -> int:
    """Of an answer. Free text has no end that could be forced: its first token tells."""
    return 1 if form.type == "free" else MOST_TOKENS


def forcing_text(form: AnswerForm, opened: ThinkTags | None) -> str:
    """What follows the prompt so that an answer begins. `opened`: the delimiters of the thought that the prompt has
    begun, if any."""
    return (f"\n{opened.close}\n\n" if opened else "") + form.opening


def answer_end(form: AnswerForm, text: str) -> int | None:
    """Number of characters of `text`, which follows the opening, up to the end of the answer; None while it goes on."""
    if form.type == "boxed":
        depth = 1
        for place, character in enumerate(text):
            depth += {"{": 1, "}": -1}.get(character, 0)
            if depth == 0:
                return place + 1
        return None
    if form.type == "letter":
        found = next((i for i, character in enumerate(text) if character.isalnum()), None)
        return None if found is None else found + 1
    return len(text) or None


def entropy(top_logprobs: Sequence[float]) -> float:
    """Entropy in nats of a distribution of which the likeliest outcomes are known, natural logs of their
    probabilities; all others count as one outcome."""
    known = [value for value in top_logprobs if value > -math.inf]
    rest = 1 - sum(math.exp(value) for value in known)
    total = -sum(math.exp(value) * value for value in known)
    return total - (rest * math.log(rest) if rest > 1e-12 else 0.0)
