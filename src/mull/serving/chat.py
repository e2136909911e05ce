"""A conversation with a pair in this process, for a terminal or a notebook. Knows no HTTP and no console.

Example:
    >>> with Chat(open_rows(Pair.built_in()), *chooser_of(None, "conf")) as chat:
    ...     for piece in chat.ask("What is the sum of 3 4 5 6 7?"):
    ...         print(piece.kind, piece.text)
    ...     print(chat.turns[-1].lam, chat.turns[-1].why)
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace

from mull.api.model import Model, Reply
from mull.benchmarks import AnswerForm
from mull.dynamic.base import Estimator
from mull.engines.base import Sampling
from mull.engines.local.engine import LocalEngine
from mull.engines.local.streaming.thought import Piece


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
        self._system, self._seed = system, seed
        self._model = Model.of(engine, estimator, form)

    def __enter__(self) -> Chat:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the response under way, and the engine's thread."""
        self._model.close()

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
        seed = self._seed + len(self.turns)
        lam = "auto" if self.lam is None else self.lam
        with closing(self._model.stream(self.messages(question), lam, self.sampling, seed=seed)) as pieces:
            yield from pieces
            self.turns.append(_turn(question, pieces.reply))


def _turn(question: str, reply: Reply) -> Turn:
    return Turn(
        question=question,
        thought=reply.thought,
        answer=reply.answer,
        lam=reply.lam,
        why=reply.why,
        thought_tokens=reply.thought_tokens,
        answer_tokens=reply.tokens - reply.thought_tokens,
        seconds=reply.seconds,
        finish=reply.finish,
        corrected=reply.corrected,
    )
