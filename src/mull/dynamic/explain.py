"""One question: its λ, the reason, and what both ends and Θ(λ(q)) answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mull.benchmarks import AnswerForm
from mull.dynamic.base import Choice, Estimator
from mull.dynamic.probing.engine import RowEngine
from mull.dynamic.probing.local import measure
from mull.engines.base import Request, Sampling
from mull.thinking import ThinkingKind, split_thinking


@dataclass(frozen=True, kw_only=True)
class Answered:
    """One response."""

    lam: float
    kind: ThinkingKind
    thought: str
    answer: str
    tokens: int
    thought_tokens: int
    """The part of `tokens` up to the end of the thought, its closing tag included."""
    finish: str


@dataclass(frozen=True, kw_only=True)
class Explained:
    """What an estimator chose for one question, and the responses at 0, λ(q) and 1."""

    estimator: str
    choice: Choice
    record: dict[str, Any]
    """Everything that decides the estimator's choices."""
    answers: list[Answered]


def explain(
    engine: RowEngine,
    messages: list[dict[str, str]],
    estimator: Estimator,
    form: AnswerForm,
    *,
    max_tokens: int,
    temperature: float = 0.0,
    seed: int = 0,
) -> Explained:
    """Chooses λ for a conversation and answers it at 0, λ(q) and 1 in one batch; `engine` has a λ per row."""
    prompt = engine.render(messages)
    signals = next(iter(measure(engine, {"question": prompt}, estimator.needs, form)))
    choice = estimator.choose(signals)
    sampling = Sampling(temperature=temperature, max_tokens=max_tokens)
    lams = sorted({0.0, choice.lam, 1.0})
    requests = [Request(id=f"{lam:g}", prompt_ids=prompt, seed=seed, sampling=sampling, lam=lam) for lam in lams]
    found = {}
    for completion in engine.generate(requests):
        finished = completion.finish == "stop"
        split = split_thinking(completion.text, finished=finished, tags=engine.prompts.tags)
        found[completion.id] = Answered(
            lam=float(completion.id),
            kind=split.kind,
            thought=split.thought,
            answer=split.answer,
            tokens=completion.tokens,
            thought_tokens=completion.thought_tokens or 0,
            finish=completion.finish,
        )
    return Explained(
        estimator=estimator.name,
        choice=choice,
        record=estimator.record(),
        answers=[found[f"{lam:g}"] for lam in lams],
    )
