"""Answers the requests: λ, prompt, responses in one batch, replies and streams. Knows no HTTP."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any, cast

from mull.engines.base import Request, Sampling
from mull.engines.local.streams import Ended, Token, Wanted
from mull.errors import MullError
from mull.serving.backend import Backend, Limits, PromptIds
from mull.serving.levels import Levels, Undecided, Wish
from mull.serving.load.auto import auto
from mull.serving.load.control import LoadControl
from mull.serving.metrics import Metrics
from mull.serving.wire import replies
from mull.serving.wire.chunks import Chunks
from mull.serving.wire.errors import ApiError, bad, of
from mull.serving.wire.replies import Answered, Head, TokenLogprob
from mull.serving.wire.requests import ChatRequest, Common, TextRequest, texts
from mull.serving.wire.shapes import ChatCompletion, Choice, Mull, TextCompletion


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A request, ready for the engine."""

    head: Head
    prompts: Sequence[PromptIds]
    requests: Sequence[Request]
    """`n` for each prompt."""
    wanted: Wanted
    logprobs: bool
    chat: bool
    stream: bool
    usage: bool
    """Whether a stream ends with a chunk of usage."""
    lam: float
    began: float
    """When it came, by `time.perf_counter`."""

    @property
    def prompt_tokens(self) -> list[int]:
        return [len(prompt) for prompt in self.prompts]


class Service:
    """One pair behind an API."""

    def __init__(
        self,
        backend: Backend,
        levels: Levels,
        *,
        limits: Limits,
        sampling: Sampling,
        undecided: Undecided = Undecided(),  # noqa: B008  (immutable)
        load: LoadControl | None = None,
    ) -> None:
        """`sampling`: the defaults. `undecided`: at which λ a stream must wait to know thought from answer. `load`:
        lowers the λ of `auto` under load; by default it is never lowered."""
        self.backend, self.levels, self.limits, self.sampling = backend, levels, limits, sampling
        self.undecided, self.load = undecided, load or LoadControl()
        self._entered = 0
        self.metrics = Metrics()
        self.metrics.under_way.set_function(lambda: self.backend.under_way)

    @asynccontextmanager
    async def entered(self) -> AsyncIterator[None]:
        """Work on a request before it is answered. Raises `ApiError` if there is too much of it, or it takes too long:
        bodies are held in memory meanwhile."""
        if self._entered >= self.limits.waiting:
            raise _overloaded()
        self._entered += 1
        try:
            async with asyncio.timeout(self.limits.seconds):
                yield
        except TimeoutError:
            raise self._late() from None
        finally:
            self._entered -= 1

    async def chat(self, request: ChatRequest) -> Asked:
        """Raises `ApiError` for a request that cannot be answered."""
        prompt = await self._rendered(request)
        return await self._asked(request, [prompt], "chatcmpl", request.limit, request.alternatives)

    async def text(self, request: TextRequest) -> Asked:
        """Raises `ApiError` for a request that cannot be answered."""
        prompts = [await self._encoded(each) if isinstance(each, str) else tuple(each) for each in request.prompts]
        return await self._asked(request, prompts, "cmpl", request.limit, request.alternatives)

    async def chosen(self, request: ChatRequest) -> Choice:
        """λ of a conversation and why, without an answer. Raises `ApiError`."""
        began = time.perf_counter()
        prompt = await self._rendered(request)
        limit = request.limit or self.limits.max_tokens
        lam, said = await self._wish(request, prompt, began=began, own=request.n, most=limit)
        return {"model": self.levels.name(lam), "mull": cast(Mull, said)}

    async def _wish(
        self, request: Common, prompt: PromptIds, *, began: float, own: int, most: int
    ) -> tuple[float, dict[str, Any]]:
        """The λ of a request for `own` responses of `most` tokens, and what the reply says of it."""
        wish: Wish = self.levels.wish(request.model, request.lam, request.reasoning_effort)
        said: dict[str, Any] = {"source": wish.source, "budget": request.budget}
        lam = wish.lam
        if lam is None:
            try:
                chosen = await auto(
                    lambda: self.backend.choose(prompt),
                    lambda: self.backend.under_way + own,
                    self.load,
                    began=began,
                    most=most,
                )
            except MullError as error:
                raise self._refused(error) from None
            lam, said = chosen.lam, {**said, **chosen.said}
            if chosen.reason is not None:
                self.metrics.lowered.labels(chosen.reason).inc()
        return lam, {"lambda": lam, **said}

    async def _rendered(self, request: ChatRequest) -> PromptIds:
        messages = texts(request.messages)
        self._check_length(sum(len(message["content"]) for message in messages))
        try:
            return await self.backend.render(messages)
        except MullError as error:
            raise of(error) from None

    async def _encoded(self, text: str) -> PromptIds:
        self._check_length(len(text))
        return await asyncio.to_thread(self.backend.encode, text)  # a long text must not stop all other replies

    def _check_length(self, characters: int) -> None:
        """Raises `ApiError` for a text so long that it need not be tokenized to know: tokens have about four."""
        most = max(1 << 19, 16 * self.backend.context)
        if characters > most:
            message = f"the prompt has {characters:,} characters, and {most:,} are allowed"
            raise ApiError(400, message, param="messages", code="context_length_exceeded")

    async def _asked(
        self,
        request: Common,
        prompts: Sequence[PromptIds],
        kind: str,
        limit: int | None,
        alternatives: int | None,
    ) -> Asked:
        began = time.perf_counter()
        longest = max(map(len, prompts))
        room = self.backend.context - longest
        if min(map(len, prompts)) == 0:
            raise bad("the prompt is empty", "prompt")
        if room < 1 or (self.limits.prompt_tokens is not None and longest > self.limits.prompt_tokens):
            most = min(self.backend.context - 1, self.limits.prompt_tokens or self.backend.context)
            message = f"the prompt has {longest:,} tokens, and {most:,} are allowed"
            raise ApiError(400, message, param="messages", code="context_length_exceeded")
        most = min(limit or self.limits.max_tokens, room)
        own = request.n * len(prompts)
        lam, said = await self._wish(request, prompts[0], began=began, own=own, most=most)
        temperature = self.sampling.temperature if request.temperature is None else request.temperature
        sampling = Sampling(
            temperature=temperature,
            top_p=self.sampling.top_p if request.top_p is None else request.top_p,
            top_k=self.sampling.top_k if request.top_k is None else max(0, request.top_k),
            max_tokens=most,
            thinking_budget=request.budget,
        )
        name = f"{kind}-{uuid.uuid4().hex}"
        seed = (uuid.uuid4().int if request.seed is None else request.seed) & ((1 << 63) - 1)
        requests = [
            Request(
                id=f"{name}/{number}/{i}",
                prompt_ids=prompt,
                seed=(seed + i) & ((1 << 63) - 1),
                sampling=sampling,
                lam=lam,
            )
            for number, prompt in enumerate(prompts)
            for i in range(request.n)
        ]
        self.metrics.lam.labels(said["source"].split()[0]).observe(lam)
        above, below = self.undecided
        return Asked(
            head=Head(id=name, model=self.levels.name(lam), mull=cast(Mull, said)),
            prompts=prompts,
            requests=requests,
            wanted=Wanted(
                stop=request.stops, alternatives=alternatives or 0, hold=above < lam < below, direct=lam <= above
            ),
            logprobs=alternatives is not None,
            chat=kind == "chatcmpl",
            stream=request.stream,
            usage=request.usage,
            lam=lam,
            began=began,
        )

    async def whole(self, asked: Asked) -> ChatCompletion | TextCompletion:
        """The reply at once. Cancelling it ends the responses."""
        self._admit(asked)
        tasks = [asyncio.create_task(self._answer(request, asked)) for request in asked.requests]
        try:
            answers = await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
        make = replies.chat if asked.chat else replies.text
        return make(asked.head, answers, asked.prompt_tokens)

    async def stream(self, asked: Asked) -> AsyncIterator[str]:
        """The reply as server-sent events, from the first token to `[DONE]`. Closing the iterator ends the responses.

        Raises `ApiError` before the first event if there is no response at all.
        """
        self._admit(asked)
        events: asyncio.Queue[tuple[int, Token | Ended | ApiError]] = asyncio.Queue()

        async def follow(index: int, request: Request) -> None:
            try:
                async with aclosing(self._events(request, asked)) as found:  # type: ignore[type-var]
                    async for event in found:
                        events.put_nowait((index, event))
            except ApiError as error:
                events.put_nowait((index, error))

        tasks = [asyncio.create_task(follow(index, request)) for index, request in enumerate(asked.requests)]
        chunks = Chunks(asked.head, chat=asked.chat)
        answers: dict[int, Answered] = {}
        begun = False
        try:
            while len(answers) < len(tasks):
                index, event = await events.get()
                if isinstance(event, ApiError):
                    if not begun:
                        raise event
                    yield _event(event.body())
                    return
                if not begun:
                    begun = True
                    for chunk in chunks.opening(len(tasks)):
                        yield _event(chunk)
                logprobs = [self._logprob(event)] if asked.logprobs and isinstance(event, Token) else None
                for chunk in chunks.of(index, event, logprobs):
                    yield _event(chunk)
                if isinstance(event, Ended):
                    answers[index] = self._answered(event, None)
                    self.metrics.corrected.inc(event.corrected)
            if asked.usage:
                yield _event(chunks.usage(asked.prompt_tokens, [answers[index] for index in range(len(tasks))]))
            yield "data: [DONE]\n\n"
        finally:
            for task in tasks:
                task.cancel()

    def _admit(self, asked: Asked) -> None:
        """Raises `ApiError` if there is no room for so many responses."""
        count, most = len(asked.requests), self.limits.waiting
        if count > most:
            raise bad(f"the request asks for {count:,} responses, and {most:,} are allowed at a time", "n")
        if self.backend.under_way + count > most:
            raise _overloaded()

    async def _answer(self, request: Request, asked: Asked) -> Answered:
        told: list[TokenLogprob] = []
        async with aclosing(self._events(request, asked)) as events:  # type: ignore[type-var]
            async for event in events:
                if isinstance(event, Ended):
                    return self._answered(event, told if asked.logprobs else None)
                if asked.logprobs:
                    told.append(self._logprob(event))
        raise ApiError(500, "the response ended without a word")

    async def _events(self, request: Request, asked: Asked) -> AsyncIterator[Token | Ended]:
        """The events of one response, timed. Raises `ApiError` if it fails, or takes longer than the limit."""
        last, first = time.perf_counter(), True
        load = self.backend.under_way + 1
        try:
            async with asyncio.timeout(self.limits.seconds):
                async with aclosing(self.backend.events(request, asked.wanted)) as events:  # type: ignore[type-var]
                    async for event in events:
                        now = time.perf_counter()
                        if isinstance(event, Token):
                            (self.metrics.first_token if first else self.metrics.between_tokens).observe(now - last)
                            if first:
                                self.load.first_token.add(load, now - last)
                            else:
                                self.load.between_tokens.add(self.backend.under_way or 1, now - last)
                            first, last = False, now
                        elif event.error is not None:
                            raise ApiError(500, "the server failed while it answered", code="internal_error")
                        elif event.finished is None:
                            raise ApiError(503, "the server is going down", retry=5)
                        else:
                            self._count(request, event)
                            self.metrics.responses.observe(now - asked.began)
                        yield event
        except TimeoutError:
            raise self._late() from None
        except MullError as error:
            raise self._refused(error) from None

    def _count(self, request: Request, event: Ended) -> None:
        assert event.finished is not None and request.lam is not None
        whole = event.finished.finish == "stop" and event.stop is None and not event.finished.forced
        self.load.tokens.add(request.lam, event.finished.tokens, whole=whole)
        self.metrics.prompt_tokens.inc(len(request.prompt_ids))
        self.metrics.cached_tokens.inc(event.cached_tokens)
        self.metrics.tokens.labels("reasoning").inc(event.reasoning_tokens)
        self.metrics.tokens.labels("other").inc(event.finished.tokens - event.reasoning_tokens)

    def _late(self) -> ApiError:
        return ApiError(408, f"the response took longer than {self.limits.seconds:g} seconds", code="timeout")

    def _refused(self, error: MullError) -> ApiError:
        """A refusal of the engine: too many responses are an overload, all else is the request's fault."""
        if self.backend.under_way >= self.limits.waiting:
            return _overloaded()
        return of(error)

    def _answered(self, event: Ended, logprobs: list[TokenLogprob] | None) -> Answered:
        completion, split = event.finished, event.split
        assert completion is not None and split is not None
        return Answered(
            reasoning=split.thought,
            content=split.answer,
            finish=completion.finish,
            tokens=completion.tokens,
            reasoning_tokens=event.reasoning_tokens,
            cached_tokens=event.cached_tokens,
            logprobs=logprobs,
            text=completion.text,
        )

    def _logprob(self, token: Token) -> TokenLogprob:
        alternatives = [(self.backend.decode(other), logprob) for other, logprob in token.alternatives]
        return TokenLogprob(self.backend.decode(token.id), token.logprob, alternatives)


def _overloaded() -> ApiError:
    return ApiError(429, "too many requests are under way", code="overloaded", retry=1)


def _event(value: Mapping[str, Any]) -> str:
    return f"data: {json.dumps(value, ensure_ascii=False, separators=(',', ':'))}\n\n"
