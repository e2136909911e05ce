"""Answers with a thought that ends as soon as the forced answer is sure.

A thought is generated in pieces. After each, the model is made to answer at once; if that answer is sure enough, the
thought is closed and the answer goes on from there, else the thought does. The forced answers' tokens are charged, and
of their prompts the forcing text: an engine with a prefix cache has read everything before it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from mull.benchmarks import AnswerForm
from mull.dynamic.base import Cost
from mull.dynamic.evaluation.policies import EarlyExit
from mull.dynamic.probing.engine import RowEngine
from mull.dynamic.probing.forcing import forcing_text
from mull.dynamic.probing.local import PromptIds, forced_after
from mull.engines.base import Completion, Request


@dataclass
class _Thought:
    """A response under way."""

    request: Request
    context: int
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    pieces: int = 0
    seconds: float = 0.0
    cost: Cost = field(default_factory=Cost)
    exited: bool = False
    """Whether the rule closed the thought."""

    @property
    def prompt(self) -> PromptIds:
        return (*self.request.prompt_ids, *self.tokens)

    @property
    def left(self) -> int:
        """Tokens that the response may still have."""
        most = min(self.request.sampling.max_tokens, self.context - len(self.request.prompt_ids))
        return most - len(self.tokens)

    def next(self, tokens: int) -> Request:
        """The request for up to `tokens` more."""
        self.pieces += 1
        # The engine's random numbers depend on the seed and the number of the token, which begins anew in each piece.
        seed = (self.request.seed + self.pieces * 0x9E3779B97F4A7C15) & ((1 << 63) - 1)
        sampling = replace(self.request.sampling, max_tokens=min(tokens, self.left))
        return replace(self.request, prompt_ids=self.prompt, seed=seed, sampling=sampling)

    def add(self, completion: Completion) -> None:
        self.tokens += completion.token_ids
        self.logprobs += completion.logprobs
        self.seconds += completion.seconds


def respond(
    engine: RowEngine, requests: Sequence[Request], rule: EarlyExit, form: AnswerForm
) -> Iterator[tuple[Completion, Cost]]:
    """Completions of `requests`, all with λ = 1, and what their forced answers cost, in the order they finish."""
    closing = engine.prompts.encode(f"\n{engine.prompts.tags[0].close}\n\n")
    text = forcing_text(form, engine.prompts.tags[0])
    longest = engine.context - len(engine.prompts.encode(text)) - 1
    thinking = {request.id: _Thought(request, engine.context) for request in requests}
    answering: dict[str, _Thought] = {}
    while thinking:
        unsure: list[_Thought] = []
        for completion in engine.generate([each.next(rule.every) for each in thinking.values()]):
            thought = thinking[completion.id]
            thought.add(completion)
            if completion.finish == "stop" or thought.left == 0:
                yield _completion(engine, thought, completion.finish), thought.cost
            elif engine.prompts.is_closed(thought.tokens):
                answering[completion.id] = thought
            else:
                unsure.append(thought)
        # Where the context leaves no room for a forced answer, the thought goes on to its end.
        thinking = {each.request.id: each for each in unsure if len(each.prompt) > longest}
        unsure = [each for each in unsure if len(each.prompt) <= longest]
        answers = forced_after(engine, 1.0, [thought.prompt for thought in unsure], form, text)
        for thought, answer in zip(unsure, answers, strict=True):
            thought.cost += Cost(answer.cost.generated, answer.cost.prefilled - len(thought.prompt))
            if answer.confidence >= rule.confidence and thought.left > len(closing):
                thought.tokens += closing
                thought.logprobs += [0.0] * len(closing)
                thought.exited = True
                answering[thought.request.id] = thought
            else:
                thinking[thought.request.id] = thought
    for completion in engine.generate([each.next(each.left) for each in answering.values()]):
        thought = answering[completion.id]
        thought.add(completion)
        yield _completion(engine, thought, completion.finish), thought.cost


def _completion(engine: RowEngine, thought: _Thought, finish: str) -> Completion:
    ids, finished = tuple(thought.tokens), finish == "stop"
    text = engine.prompts.text(ids)
    return Completion(
        id=thought.request.id,
        token_ids=ids,
        logprobs=tuple(thought.logprobs),
        text=text,
        finish="stop" if finished else "length",
        seconds=thought.seconds,
        prompt_tokens=len(thought.request.prompt_ids),
        forced=thought.exited,
        thought_tokens=engine.prompts.thought_tokens(ids, text, finished=finished),
    )
