"""The interface of every engine: it takes requests and returns completions. Knows no benchmark."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How tokens are drawn. The defaults are those of the Thinking model in Wu et al. 2025 (arXiv 2510.10977)."""

    temperature: float = 0.6
    """0 = greedy."""
    top_p: float = 0.95
    top_k: int = 20
    """0 = no limit."""
    max_tokens: int = 81920
    """Generated tokens per response, end-of-text token included; the engine lowers it to what the context holds."""
    thinking_budget: int | None = None
    """Tokens after which a thought is closed by force, its delimiters not counted; None = no limit."""
    budget_message: str | None = None
    """What is written between such a thought and its closing delimiter; its tokens do not count for the budget."""

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < float("inf"):
            raise ValueError(f"temperature must be 0 (greedy) or a positive number, got {self.temperature:g}")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p must lie in (0, 1], got {self.top_p:g}")
        if self.top_k < 0:
            raise ValueError(f"top_k must be 0 (no limit) or positive, got {self.top_k}")
        if self.max_tokens < 1:
            raise ValueError(f"max_tokens must be positive, got {self.max_tokens}")
        if self.thinking_budget is not None and self.thinking_budget < 0:
            raise ValueError(f"thinking_budget must be 0 or positive, got {self.thinking_budget}")
        if self.budget_message is not None and self.thinking_budget is None:
            raise ValueError("budget_message needs a thinking_budget")

    def record(self) -> dict[str, Any]:
        """The parameters as JSON, without those that are not used."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class Request:
    """A request for one response."""

    id: str
    """Returned with the completion; unique within one call of `generate`."""
    prompt_ids: tuple[int, ...]
    """The rendered prompt, template included."""
    seed: int
    """Seed of this response alone: other responses in the batch do not affect it."""
    sampling: Sampling
    lam: float | None = None
    """λ of the weights that answer, for engines that have one per row; None: the engine's present weights."""


@dataclass(frozen=True, kw_only=True)
class Completion:
    """One response, counted by the engine."""

    id: str
    token_ids: tuple[int, ...]
    """Generated tokens, the end-of-text token included where it was reached; empty where a server gives text only."""
    logprobs: tuple[float, ...]
    """Natural log of each token's probability under the model's own distribution (before temperature, top-p, top-k)."""
    text: str
    """Decoded without special tokens; think tags stay visible."""
    finish: Literal["stop", "length"]
    seconds: float
    """Wall-clock seconds from this request's prefill to its last token."""
    counted: int | None = None
    """Number of generated tokens as the server counted them, if it returns no token ids."""
    prompt_tokens: int | None = None
    """Tokens of the prompt, template included; None where a server does not say."""
    thought_tokens: int | None = None
    """Generated tokens up to the end of the thought, its closing tag included; None where a server does not say."""

    forced: bool = False
    """Whether a thinking budget closed the thought."""

    @property
    def tokens(self) -> int:
        """Generated tokens."""
        return len(self.token_ids) if self.counted is None else self.counted


class Engine(Protocol):
    """Text from weights."""

    def render(self, messages: list[dict[str, str]]) -> tuple[int, ...]:
        """Token ids of a conversation under the donor's chat template, ready for an assistant's turn."""
        ...

    def generate(self, requests: Iterable[Request]) -> Iterator[Completion]:
        """Completions in the order in which they finish."""
        ...
