"""Opens the front of a pair whose responses come from elsewhere."""

from __future__ import annotations

from dataclasses import replace

from starlette.types import ASGIApp

from mull.benchmarks import AnswerForm
from mull.checkpoints.pair import Pair
from mull.dynamic.base import Estimator, Need
from mull.engines.local.opening import End, prompts_of
from mull.serving.backend import Limits
from mull.serving.front.choosing import ByProbes
from mull.serving.front.front import Front
from mull.serving.levels import Levels, Undecided
from mull.serving.load.control import LoadControl

MOST_BYTES = 64 << 20
"""Of a body: it may hold images."""


def open_front(
    inner: ASGIApp,
    base: str,
    levels: Levels,
    undecided: Undecided,
    pair: Pair | None,
    estimator: Estimator,
    form: AnswerForm,
    limits: Limits,
    *,
    load: LoadControl | None = None,
    trust_remote_code: bool = False,
) -> Front:
    """The front before `inner`, which knows the pair as `base`.

    `pair`: its tokenizer and template make the prompts by which `estimator` chooses λ; None: nothing does, and
    `levels.auto` must be False. Weights are loaded only for an estimator of hidden states, those of the end that it
    reads: vLLM serves either text or hidden states, not both from one model.
    """
    chooser = None
    if pair is not None:
        sides = {Need.hidden_instruct: pair.instruct, Need.hidden_thinking: pair.thinking}
        ends = {
            need: End(side.folder, trust_remote_code=trust_remote_code)
            for need, side in sides.items()
            if need in estimator.needs
        }
        prompts = prompts_of(pair, trust_remote_code=trust_remote_code)
        chooser = ByProbes(inner, base, prompts, estimator, form, ends)
    return Front(
        levels=levels,
        base=base,
        undecided=undecided,
        chooser=chooser,
        limits=replace(limits, body_bytes=MOST_BYTES),
        load=load or LoadControl(),
    )
