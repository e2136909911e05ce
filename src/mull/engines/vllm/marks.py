"""What a request for vLLM says to mull's parts in it. Knows no vLLM."""

from __future__ import annotations

from enum import StrEnum

MARK = "mull"
"""Name in `chat_template_kwargs` of what mull's reasoning parser is told: `thought`, a `Reading`, and `tools`, whether
calls of tools may come. Templates do not see it: vLLM gives them only what they ask for."""


class Reading(StrEnum):
    """How a response whose prompt may have opened a thought is read."""

    sure = "sure"
    """As a thought, from its first token."""
    hold = "hold"
    """Not before it is known what it is."""
    direct = "direct"
    """As an answer, from its first token."""
    plain = "plain"
    """As `direct`, and tools and formats hold from its first token."""
