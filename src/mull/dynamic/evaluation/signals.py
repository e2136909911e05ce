"""Keeps the forced answers of both ends in a run, so that other constants of `conf` can be tried without an engine.

An estimator measures no more than it needs, and its tokens are charged. What is kept here is measured once beside that,
for all questions, and charged to no policy.
"""

from __future__ import annotations

from collections.abc import Sequence

from mull.benchmarks import AnswerForm
from mull.dynamic.base import Cost, ForcedAnswer, Need, Signals
from mull.dynamic.estimators.conf import Confidence
from mull.dynamic.evaluation.policies import Policy
from mull.dynamic.probing.engine import RowEngine
from mull.dynamic.probing.local import PromptIds, measure
from mull.runs.store import RunStore

ENDS = (Need.forced_instruct, Need.forced_thinking)


def wanted(policies: Sequence[Policy]) -> bool:
    """Whether `conf` is among the policies, whose constants are then studied."""
    return any(isinstance(policy.estimator, Confidence) for policy in policies)


def lacking(store: RunStore, questions: Sequence[str]) -> list[str]:
    """Those of `questions` whose forced answers the run does not hold."""
    known = store.signals
    return [question for question in questions if question not in known]


def keep(store: RunStore, engine: RowEngine, prompts: dict[str, PromptIds], form: AnswerForm) -> None:
    """Measures the forced answers of both ends to `prompts` and records them."""
    found = {}
    for signals in measure(engine, prompts, ENDS, form):
        answers = {need.value: signals.forced(need) for need in ENDS}
        found[signals.query] = {
            end: [each.text, list(each.logprobs), each.entropy, *each.cost] for end, each in answers.items()
        }
    store.note_signals({**store.signals, **found})


def kept(store: RunStore) -> dict[str, Signals]:
    """Question → forced answers of both ends, as far as the run holds them."""
    found = {}
    for question, ends in store.signals.items():
        measured = {
            Need(end): ForcedAnswer(text=text, logprobs=tuple(logprobs), entropy=entropy, cost=Cost(*cost))
            for end, (text, logprobs, entropy, *cost) in ends.items()
        }
        found[question] = Signals(query=question, measured=measured)
    return found
