"""Measures with the local engine, whose rows have a λ each: both ends answer in one batch."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from mull.benchmarks import AnswerForm
from mull.dynamic.base import Cost, ForcedAnswer, Hidden, Need, Signals
from mull.dynamic.probing.forcing import answer_end, entropy, forcing_text, most_tokens
from mull.engines.base import Completion, Request, Sampling
from mull.engines.local.engine import LocalEngine
from mull.engines.local.prompts import Prompts

LAM = {
    Need.forced_instruct: 0.0,
    Need.forced_thinking: 1.0,
    Need.hidden_instruct: 0.0,
    Need.hidden_thinking: 1.0,
}
CHUNK = 256
"""Queries measured at a time."""

PromptIds = tuple[int, ...]


class Query(NamedTuple):
    """A conversation whose next turn is to be answered."""

    name: str
    messages: list[dict[str, str]]
    form: AnswerForm
    """How its answer begins, if it is forced."""


def measure(
    engine: LocalEngine, queries: Mapping[str, PromptIds], needs: Collection[Need], form: AnswerForm
) -> Iterator[Signals]:
    """The `Signals` of each query, by its name and rendered prompt, in their order.

    `engine` has a λ per row. Raises `MullError` for a prompt that leaves no room for a forced answer.
    """
    every = list(queries.items())
    for chunk in (every[first : first + CHUNK] for first in range(0, len(every), CHUNK)):
        names, prompts = [name for name, _ in chunk], [prompt for _, prompt in chunk]
        found = {need: list(_measured(engine, need, prompts, form)) for need in sorted(needs)}
        for number, name in enumerate(names):
            yield Signals(query=name, measured={need: values[number] for need, values in found.items()})


def measure_all(
    engine: LocalEngine,
    queries: Sequence[Query],
    needs: Collection[Need],
    advance: Callable[[int], object] = lambda count: None,
) -> list[Signals]:
    """As `measure`, for queries whose answers may begin in different ways, in their order; `advance(1)` after each."""
    found: dict[int, Signals] = {}
    for form in dict.fromkeys(query.form for query in queries):
        # By number, since two runs may have different questions of the same name.
        own = {str(i): engine.render(query.messages) for i, query in enumerate(queries) if query.form == form}
        for signals in measure(engine, own, needs, form):
            number = int(signals.query)
            found[number] = replace(signals, query=queries[number].name)
            advance(1)
    return [found[i] for i in range(len(queries))]


def _measured(
    engine: LocalEngine, need: Need, prompts: Sequence[PromptIds], form: AnswerForm
) -> Iterable[ForcedAnswer | Hidden]:
    if need in (Need.forced_instruct, Need.forced_thinking):
        return forced_after(engine, LAM[need], prompts, form)
    if need is Need.hidden_thinking:  # where the thought begins
        prompts = [begun(engine.prompts, prompt) for prompt in prompts]
    readings = engine.read(prompts, LAM[need])
    return (
        Hidden(layers=reading.hidden, cost=Cost(0, len(prompt)))
        for reading, prompt in zip(readings, prompts, strict=True)
    )


def begun(prompts: Prompts, prompt: PromptIds) -> PromptIds:
    """`prompt` with a begun thought."""
    if prompts.opened(prompt):
        return prompt
    return prompt + prompts.encode(prompts.tags[0].open)


def forced_after(
    engine: LocalEngine, lam: float, prompts: Sequence[PromptIds], form: AnswerForm, text: str | None = None
) -> Iterator[ForcedAnswer]:
    """What Θ(λ) answers after each of `prompts` and a forcing text (default: that of `form`), in their order."""
    forced = [
        prompt + engine.prompts.encode(forcing_text(form, engine.prompts.opened(prompt)) if text is None else text)
        for prompt in prompts
    ]
    entropies = [entropy(reading.top_logprobs.tolist()) for reading in engine.read(forced, lam)]
    sampling = Sampling(temperature=0, top_p=1.0, top_k=0, max_tokens=most_tokens(form))
    requests = [
        Request(id=str(i), prompt_ids=prompt, seed=0, sampling=sampling, lam=lam) for i, prompt in enumerate(forced)
    ]
    completions = {int(completion.id): completion for completion in engine.generate(requests)}
    for number, prompt in enumerate(forced):
        answer, kept = cut(engine.prompts, completions[number], form)
        yield ForcedAnswer(
            text=answer,
            logprobs=completions[number].logprobs[:kept],
            entropy=entropies[number],
            cost=Cost(kept, len(prompt)),
        )


def cut(prompts: Prompts, completion: Completion, form: AnswerForm) -> tuple[str, int]:
    """The answer and its number of tokens: what comes after its end is not looked at, and a server stops there."""
    end = answer_end(form, completion.text)
    if end is None:
        return completion.text, len(completion.token_ids)
    count = next(
        n for n in range(1, len(completion.token_ids) + 1) if len(prompts.text(completion.token_ids[:n])) >= end
    )
    return completion.text[:end], count
