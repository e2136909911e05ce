"""`Model`: a pair in memory that answers at any λ, or at the λ that an estimator chooses for each question."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from html import escape
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Literal, NamedTuple, Self, TypedDict, TypeVar, Unpack, overload

from mull.api.progress import observer_of
from mull.benchmarks import AnswerForm
from mull.checkpoints.pair import Pair
from mull.dynamic.base import Estimator
from mull.dynamic.choosing import chooser_of
from mull.dynamic.head import Head
from mull.dynamic.probing.streams import measure_in
from mull.engines.base import Request, Sampling
from mull.engines.local.engine import LocalEngine
from mull.engines.local.opening import open_rows
from mull.engines.local.streaming.thought import Piece
from mull.engines.local.streams import Ended, Streams, Token, Wanted
from mull.errors import MullError
from mull.merging.coefficients import check_lambda

HOLD_BELOW = 0.4
"""Below this λ most responses have no thought even if the prompt opens one (the published stages), so that their text
is held back until it is known what it is."""

Prompt = str | Sequence[Mapping[str, str]]
"""A question, or the messages of a conversation: `{"role": "user", "content": "…"}`, the user's last."""
Level = float | Literal["auto"]
"""A λ from 0 to 1, or `auto`: the model's estimator chooses it for the question."""
_T = TypeVar("_T")


class Drawing(TypedDict, total=False):
    """How a reply is drawn, and how long it may be."""

    max_tokens: int
    """Most tokens, thought included; 2048, lowered to what the context holds."""
    budget: int
    """Tokens after which the thought is closed and the answer goes on from there."""
    budget_message: str
    """What is written before the tag that closes it."""
    temperature: float
    """0 is greedy; 0.6."""
    top_p: float
    """0.95."""
    top_k: int
    """0: no limit; 20."""
    seed: int
    """0. The same seed, prompt and λ give the same reply."""
    stop: Sequence[str]
    """Strings that end the reply."""


@dataclass(frozen=True, kw_only=True, repr=False)
class Reply:
    """One response, its thought apart from its answer."""

    thought: str
    """Without its delimiters; empty where there is none."""
    answer: str
    lam: float
    why: str
    """Where λ came from."""
    tokens: int
    """Generated, those of the thought and its delimiters included."""
    thought_tokens: int
    finish: str
    """`stop`, or `length` at the token limit."""
    seconds: float
    """From the question to the last token, the choice of λ included."""
    text: str
    """As it was generated, delimiters included."""
    corrected: bool = False
    """Whether streamed pieces came as thought that are answer, or the other way round."""

    @property
    def summary(self) -> str:
        """λ, its reason and the tokens, in one line."""
        cut = ", cut off" if self.finish == "length" else ""
        return f"λ = {self.lam:g} ({self.why}), {self.tokens:,} tokens, {self.thought_tokens:,} of them thought{cut}"

    def __repr__(self) -> str:
        thought = f"\nthought: {self.thought}" if self.thought else ""
        return f"Reply at {self.summary}{thought}\nanswer: {self.answer}"

    def _repr_html_(self) -> str:
        shown = '<pre style="white-space: pre-wrap; margin: 0.3em 0">{}</pre>'
        thought = f"<details open><summary>thought</summary>{shown.format(escape(self.thought))}</details>"
        answer = shown.format(escape(self.answer))
        return f"<p><small>{escape(self.summary)}</small></p>{thought if self.thought else ''}{answer}"


class Chosen(NamedTuple):
    """The λ of one reply."""

    lam: float
    why: str


class Replying(Iterator[Piece]):
    """A reply under way: iterate over its pieces (`kind`, "thought" or "answer", and `text`); then `reply` is there.

    `close` it to stop the reply before its end; leaving the loop and dropping it does the same.
    """

    def __init__(self, events: Iterator[Token | Ended], chosen: Chosen, began: float) -> None:
        self._reply: Reply | None = None
        self._pieces = self._read(events, chosen, began)

    def _read(self, events: Iterator[Token | Ended], chosen: Chosen, began: float) -> Iterator[Piece]:
        with closing(events):  # type: ignore[type-var]
            for event in events:
                yield from event.pieces
                if isinstance(event, Ended):
                    self._reply = _reply(event, chosen, began)

    def __next__(self) -> Piece:
        return next(self._pieces)

    def close(self) -> None:
        """Stop the reply."""
        self._pieces.close()  # type: ignore[attr-defined]

    @property
    def reply(self) -> Reply:
        """The whole reply. Raises `MullError` before its last piece."""
        if self._reply is None:
            raise MullError("the reply is not finished", "iterate to its last piece, or ask with Model.chat")
        return self._reply


class Model:
    """A pair in this process, all of whose replies share one batch, each at its own λ.

    Use it as a context, or `close` it, to free the engine. It may be asked from several threads.

    Example:
        >>> model = Model()  # the built-in pair
        >>> reply = model.chat("What is the sum of 3 4 5 6 7?", lam=0.6)
        >>> reply.thought, reply.answer, reply.tokens
    """

    def __init__(
        self,
        pair: Pair | None = None,
        *,
        head: str | Path | None = None,
        estimator: str = "conf",
        device: str = "auto",
        trust_remote_code: bool = False,
        quiet: bool = False,
    ) -> None:
        """Load the weights of `pair` (None: the built-in one). Both ends are kept in memory.

        `estimator` chooses λ for `auto`: conf, which needs no training, or one of those in the file `head`, which
        `mull route train` writes. `device`: auto, cpu, cuda, cuda:1 …  `quiet`: show no progress, now and later.

        Raises `MullError` where the pair cannot be mixed, does not fit into memory, is no model that decodes in this
        process, or the head is of another pair.
        """
        pair = pair or Pair.built_in()
        pair.check()
        trained = Head.open(Path(head)) if head else None
        if trained is not None:
            trained.check(pair.fingerprints)
        chooser, form = chooser_of(trained, estimator)
        with observer_of(quiet).busy("loading the checkpoints"):
            engine = open_rows(pair, device=device, trust_remote_code=trust_remote_code)
        self._begin(engine, chooser, form, f"{pair.instruct.published_name} × {pair.thinking.published_name}", quiet)

    @classmethod
    def of(cls, engine: LocalEngine, estimator: Estimator, form: AnswerForm) -> Model:
        """A model over an engine with a λ per row. `estimator` chooses λ for `auto`, with answers forced as `form`
        says."""
        made = cls.__new__(cls)
        made._begin(engine, estimator, form, "an engine", True)
        return made

    def _begin(self, engine: LocalEngine, estimator: Estimator, form: AnswerForm, named: str, quiet: bool) -> None:
        self._engine, self._estimator, self._form = engine, estimator, form
        self._named, self._quiet = named, quiet
        self._streams = Streams(engine)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the replies under way, and the engine's thread."""
        self._streams.close()

    def __repr__(self) -> str:
        return f"Model: {self._named}, estimator {self._estimator.name}"

    @overload
    def chat(self, prompt: Prompt, lam: Level = "auto", **drawing: Unpack[Drawing]) -> Reply: ...

    @overload
    def chat(self, prompt: Prompt, lam: Sequence[Level], **drawing: Unpack[Drawing]) -> list[Reply]: ...

    def chat(
        self, prompt: Prompt, lam: Level | Sequence[Level] = "auto", **drawing: Unpack[Drawing]
    ) -> Reply | list[Reply]:
        """The reply to a question or a conversation; for several λ one reply each, decoded in one batch.

        Raises `MullError` for a λ outside [0, 1], and for what the model cannot answer.
        """
        if isinstance(lam, str | float | int):
            return self.generate([prompt], lam, **drawing)[0]
        return self.generate([prompt] * len(lam), lam, **drawing)

    def generate(
        self, prompts: Sequence[Prompt], lam: Level | Sequence[Level] = "auto", **drawing: Unpack[Drawing]
    ) -> list[Reply]:
        """The replies to several prompts, decoded in one batch; `lam` is one for all, or one for each.

        Raises `MullError` as `chat`, and for another number of λ than of prompts.
        """
        if isinstance(prompts, str):
            raise MullError("generate takes several prompts", "give a list, or ask one with chat")
        levels: list[Level] = [lam] * len(prompts) if isinstance(lam, str | float | int) else list(lam)
        if len(levels) != len(prompts):
            raise MullError(f"{len(levels)} λ for {len(prompts)} prompts", "give one for all, or one for each")
        began = time.perf_counter()
        rendered = [self._render(prompt) for prompt in prompts]
        chosen = self._choose(rendered, levels)
        wanted = Wanted(stop=tuple(drawing.get("stop", ())))
        events: SimpleQueue[tuple[int, Token | Ended]] = SimpleQueue()
        requests = [
            _request(str(i), ids, each.lam, drawing) for i, (ids, each) in enumerate(zip(rendered, chosen, strict=True))
        ]
        replies: dict[int, Reply] = {}
        under_way = {}
        try:
            for i, request in enumerate(requests):
                under_way[i] = self._streams.submit(request, lambda event, i=i: events.put((i, event)), wanted)
            with observer_of(self._quiet or len(requests) == 1).counting("answering", len(requests)) as advance:
                while under_way:
                    i, event = events.get()
                    if isinstance(event, Ended):
                        del under_way[i]
                        replies[i] = _reply(event, chosen[i], began)
                        advance(1)
        finally:
            for stream in under_way.values():
                self._streams.cancel(stream)
        return [replies[i] for i in range(len(requests))]

    def stream(
        self, prompt: Prompt, lam: Level = "auto", sampling: Sampling | None = None, **drawing: Unpack[Drawing]
    ) -> Replying:
        """The reply in pieces, as they come, thought and answer apart; at the end it is in `.reply`.

        Under a template that opens a thought, text at λ below 0.4 is held back until it is known to be thought or
        answer. `sampling`: in place of what `drawing` says of it. Raises `MullError` as `chat`.
        """
        began = time.perf_counter()
        ids = self._render(prompt)
        (chosen,) = self._choose([ids], [lam])
        hold = chosen.lam < HOLD_BELOW and self._engine.prompts.opened(ids) is not None
        wanted = Wanted(stop=tuple(drawing.get("stop", ())), hold=hold)
        request = _request("stream", ids, chosen.lam, drawing, sampling)
        return Replying(self._streams.tokens(request, wanted), chosen, began)

    def _render(self, prompt: Prompt) -> tuple[int, ...]:
        messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else [dict(each) for each in prompt]
        return self._engine.render(messages)

    def _choose(self, prompts: Sequence[tuple[int, ...]], levels: Sequence[Level]) -> list[Chosen]:
        """λ of each prompt; those of `auto` are measured in one batch, equal prompts once."""
        for level in levels:
            if isinstance(level, str) and level != "auto":
                raise MullError(f"{level!r} is no λ", 'give a number from 0 to 1, or "auto"')
            if not isinstance(level, str):
                check_lambda(level)
        asked = dict.fromkeys(ids for ids, level in zip(prompts, levels, strict=True) if level == "auto")
        measure = partial(measure_in, self._streams, self._engine, needs=self._estimator.needs, form=self._form)

        async def measured() -> list[Any]:
            return await asyncio.gather(*(measure(ids) for ids in asked))

        found: dict[tuple[int, ...], Chosen] = {}
        if asked:
            for ids, signals in zip(asked, _run(measured()), strict=True):
                choice = self._estimator.choose(signals)
                found[ids] = Chosen(choice.lam, f"auto: {choice.why}")
        return [
            found[ids] if isinstance(level, str) else Chosen(float(level), "chosen by you")
            for ids, level in zip(prompts, levels, strict=True)
        ]


def _request(
    name: str, ids: tuple[int, ...], lam: float, drawing: Drawing, sampling: Sampling | None = None
) -> Request:
    try:
        sampling = sampling or Sampling(
            temperature=drawing.get("temperature", 0.6),
            top_p=drawing.get("top_p", 0.95),
            top_k=drawing.get("top_k", 20),
            max_tokens=drawing.get("max_tokens", 2048),
            thinking_budget=drawing.get("budget"),
            budget_message=drawing.get("budget_message"),
        )
    except ValueError as error:
        raise MullError(str(error)) from None
    return Request(id=name, prompt_ids=ids, seed=drawing.get("seed", 0), sampling=sampling, lam=lam)


def _run(work: Coroutine[Any, Any, _T]) -> _T:
    """The result of `work`. A notebook's thread has an event loop under way, beside which no other can run."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()


def _reply(event: Ended, chosen: Chosen, began: float) -> Reply:
    """Raises `MullError` where the response broke off."""
    if event.finished is None or event.split is None:
        raise event.error or MullError("the response was cancelled", "Ask again")
    return Reply(
        thought=event.split.thought,
        answer=event.split.answer,
        lam=chosen.lam,
        why=chosen.why,
        tokens=event.finished.tokens,
        thought_tokens=event.reasoning_tokens,
        finish=event.finished.finish,
        seconds=time.perf_counter() - began,
        text=event.finished.text,
        corrected=event.corrected,
    )
