"""Measures one query among the responses of a long-lived batch."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Collection

from mull.benchmarks import AnswerForm
from mull.dynamic.base import Cost, ForcedAnswer, Hidden, Need, Signals
from mull.dynamic.probing.forcing import entropy, forcing_text, most_tokens
from mull.dynamic.probing.local import LAM, PromptIds, begun, cut
from mull.engines.base import Request, Sampling
from mull.engines.local.engine import LocalEngine
from mull.engines.local.reading import TOP
from mull.engines.local.streams import Ended, Streams, Token, Wanted
from mull.errors import MullError


async def measure_in(
    streams: Streams, engine: LocalEngine, prompt: PromptIds, needs: Collection[Need], form: AnswerForm
) -> Signals:
    """The `Signals` of a rendered conversation: forced answers are rows of the batch, hidden states are read between
    two of its steps. Raises `MullError` as the engine does."""
    order = sorted(needs)
    found = await asyncio.gather(*(_measured(streams, engine, prompt, need, form) for need in order))
    name = hashlib.sha256(repr(prompt).encode()).hexdigest()[:16]
    return Signals(query=name, measured=dict(zip(order, found, strict=True)))


async def _measured(
    streams: Streams, engine: LocalEngine, prompt: PromptIds, need: Need, form: AnswerForm
) -> ForcedAnswer | Hidden:
    if need in (Need.forced_instruct, Need.forced_thinking):
        return await _forced(streams, engine, prompt, LAM[need], form)
    read = begun(engine.prompts, prompt) if need is Need.hidden_thinking else prompt
    (reading,) = await asyncio.wrap_future(streams.call(lambda: list(engine.read([read], LAM[need]))))
    return Hidden(layers=reading.hidden, cost=Cost(0, len(read)))


async def _forced(
    streams: Streams, engine: LocalEngine, prompt: PromptIds, lam: float, form: AnswerForm
) -> ForcedAnswer:
    forced = prompt + engine.prompts.encode(forcing_text(form, engine.prompts.opened(prompt)))
    sampling = Sampling(temperature=0, top_p=1.0, top_k=0, max_tokens=most_tokens(form))
    request = Request(id="probe", prompt_ids=forced, seed=0, sampling=sampling, lam=lam)
    first: list[float] = []
    async for event in streams.events(request, Wanted(alternatives=TOP)):
        if isinstance(event, Token):
            first = first or [logprob for _, logprob in event.alternatives]
        elif isinstance(event, Ended):
            if event.error is not None or event.finished is None:
                raise event.error or MullError("the probe was cancelled", "Send the request again")
            text, kept = cut(engine.prompts, event.finished, form)
            return ForcedAnswer(
                text=text,
                logprobs=event.finished.logprobs[:kept],
                entropy=entropy(first),
                cost=Cost(kept, len(forced)),
            )
    raise MullError("the probe ended without a word", "Send the request again")
