"""A conversation with a pair in this process, for a terminal or a notebook. Knows no HTTP and no console.

Example:
    >>> with Chat(open_rows(Pair.built_in()), *chooser_of(None, "conf")) as chat:
    ...     for piece in chat.ask("What is the sum of 3 4 5 6 7?"):
    ...         print(piece.kind, piece.text)
    ...     print(chat.turns[-1].lam, chat.turns[-1].why)
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from typing import NamedTuple

from mull.benchmarks import AnswerForm
from mull.dynamic.base import Estimator
from mull.dynamic.probing.streams import measure_in
from mull.engines.base import Request, Sampling
from mull.engines.local.engine import LocalEngine
from mull.engines.local.streaming.thought import Piece
from mull.engines.local.streams import Ended, Streams, Wanted
from mull.errors import MullError

HOLD_BELOW = 0.4
"""Below this λ most responses have no thought even if the prompt opens one (the published stages), so that their text
is held back until it is known what it is."""


class Chosen(NamedTuple):
    """The λ of one turn."""

    lam: float
    why: str


@dataclass(frozen=True, kw_only=True)
class Turn:
    """One question and its response."""

    question: str
    thought: str
    answer: str
    lam: float
    why: str
    """Where λ came from."""
    thought_tokens: int
    answer_tokens: int
    """All others, delimiters of the thought included."""
    seconds: float
    finish: str
    """`stop`, or `length` at the token limit."""
    corrected: bool
    """Whether pieces came as thought that are answer, or the other way round."""


class Chat:
    """One conversation. The thoughts of earlier turns are not sent back to the model."""

    def __init__(
        self,
        engine: LocalEngine,
        estimator: Estimator,
        form: AnswerForm,
        *,
        lam: float | None = None,
        sampling: Sampling | None = None,
        system: str | None = None,
        seed: int = 0,
    ) -> None:
        """`engine`: one with a λ per row. `estimator` chooses λ where `lam` is None, with answers forced as `form`
        says. `lam` and `sampling` may be changed between turns. `seed`: of the first turn; others count on from it."""
        self.lam, self.sampling = lam, sampling or Sampling(max_tokens=2048)
        self.turns: list[Turn] = []
        self._engine, self._estimator, self._form = engine, estimator, form
        self._system, self._seed = system, seed
        self._streams = Streams(engine)

    def __enter__(self) -> Chat:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the response under way, and the engine's thread."""
        self._streams.close()

    def new(self) -> None:
        """Forgets the conversation."""
        self.turns = []

    def set_budget(self, tokens: int | None) -> None:
        """The most tokens of a thought; None: no limit."""
        self.sampling = replace(self.sampling, thinking_budget=tokens)

    def messages(self, question: str) -> list[dict[str, str]]:
        """The conversation up to `question`, as the model is asked."""
        found = [{"role": "system", "content": self._system}] if self._system else []
        for turn in self.turns:
            found += [{"role": "user", "content": turn.question}, {"role": "assistant", "content": turn.answer}]
        return [*found, {"role": "user", "content": question}]

    def ask(self, question: str) -> Iterator[Piece]:
        """The response in pieces, as they come; at the end there is a new `Turn` in `turns`.

        Dropping the iterator stops the response, and the conversation goes on as if the question had not been asked.
        Raises `MullError` for a conversation that the model cannot answer.
        """
        began = time.perf_counter()
        prompt = self._engine.render(self.messages(question))
        chosen = self._choose(prompt)
        hold = chosen.lam < HOLD_BELOW and self._engine.prompts.opened(prompt) is not None
        request = Request(
            id="chat", prompt_ids=prompt, seed=self._seed + len(self.turns), sampling=self.sampling, lam=chosen.lam
        )
        with closing(self._streams.tokens(request, Wanted(hold=hold))) as events:  # type: ignore[type-var]
            for event in events:
                yield from event.pieces
                if isinstance(event, Ended):
                    self.turns.append(_turn(question, chosen, event, time.perf_counter() - began))

    def _choose(self, prompt: tuple[int, ...]) -> Chosen:
        if self.lam is not None:
            return Chosen(self.lam, "chosen by you")
        needs = self._estimator.needs
        signals = asyncio.run(measure_in(self._streams, self._engine, prompt, needs, self._form))
        choice = self._estimator.choose(signals)
        return Chosen(choice.lam, f"auto: {choice.why}")


def _turn(question: str, chosen: Chosen, event: Ended, seconds: float) -> Turn:
    if event.finished is None or event.split is None:
        raise event.error or MullError("the response was cancelled", "Ask again")
    return Turn(
        question=question,
        thought=event.split.thought,
        answer=event.split.answer,
        lam=chosen.lam,
        why=chosen.why,
        thought_tokens=event.reasoning_tokens,
        answer_tokens=event.finished.tokens - event.reasoning_tokens,
        seconds=seconds,
        finish=event.finished.finish,
        corrected=event.corrected,
    )
