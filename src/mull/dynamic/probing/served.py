"""Measures one query with a server that answers at any λ, by the text completions of OpenAI's API as vLLM has them.

Hidden states do not come over the wire: ends of the pair in this process read the prompt for them.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any

from mull.benchmarks import AnswerForm
from mull.dynamic.base import Cost, ForcedAnswer, Hidden, Need, Signals
from mull.dynamic.probing.end import End
from mull.dynamic.probing.forcing import entropy, forcing_text, most_tokens
from mull.dynamic.probing.local import LAM, PromptIds, begun, cut
from mull.engines.base import Completion
from mull.engines.local.prompts import Prompts
from mull.engines.local.reading import TOP
from mull.errors import MullError

Complete = Callable[[dict[str, Any], float], Awaitable[Mapping[str, Any]]]
"""The reply to the body of a text completion at a λ; the body lacks model and λ."""


async def measure_by(
    complete: Complete,
    prompts: Prompts,
    ends: Mapping[Need, End],
    prompt: PromptIds,
    needs: Collection[Need],
    form: AnswerForm,
) -> Signals:
    """The `Signals` of a rendered conversation. `ends`: those that read hidden states, for the needs that ask for some.

    Raises `MullError` if the server's reply is not what was asked for.
    """
    order = sorted(needs)

    async def measured(need: Need) -> ForcedAnswer | Hidden:
        if need in (Need.forced_instruct, Need.forced_thinking):
            return await _forced(complete, prompts, prompt, LAM[need], form)
        read = begun(prompts, prompt) if need is Need.hidden_thinking else prompt
        (reading,) = await asyncio.to_thread(lambda: list(ends[need].read([read])))
        return Hidden(layers=reading.hidden, cost=Cost(0, len(read)))

    found = await asyncio.gather(*map(measured, order))
    name = hashlib.sha256(repr(prompt).encode()).hexdigest()[:16]
    return Signals(query=name, measured=dict(zip(order, found, strict=True)))


async def _forced(
    complete: Complete, prompts: Prompts, prompt: PromptIds, lam: float, form: AnswerForm
) -> ForcedAnswer:
    forced = prompt + prompts.encode(forcing_text(form, prompts.opened(prompt)))
    body = {
        "prompt": list(forced),
        "max_tokens": most_tokens(form),
        "temperature": 0,
        "logprobs": TOP,
        "return_token_ids": True,
        "return_tokens_as_token_ids": True,  # two tokens may have one text
    }
    reply = await complete(body, lam)
    try:
        choice = reply["choices"][0]
        ids, told = tuple(map(int, choice["token_ids"])), choice["logprobs"]
        logprobs = tuple(map(float, told["token_logprobs"]))
        first = sorted(map(float, told["top_logprobs"][0].values()), reverse=True)[:TOP]
        if not 0 < len(ids) == len(logprobs):
            raise ValueError
    except (LookupError, TypeError, ValueError, AttributeError):
        raise MullError(
            "the server's text completions lack token ids or logprobs, which choosing λ needs",
            "name a λ, or let the server be a vLLM with mull's plugin",
        ) from None
    finish = "length" if choice.get("finish_reason") == "length" else "stop"
    completion = Completion(
        id="probe", token_ids=ids, logprobs=logprobs, text=prompts.text(ids), finish=finish, seconds=0.0
    )
    text, kept = cut(prompts, completion, form)
    return ForcedAnswer(text=text, logprobs=logprobs[:kept], entropy=entropy(first), cost=Cost(kept, len(forced)))
