"""The loader of a plan that vLLM answers in this process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mull.engines.local.arithmetic import arithmetic
from mull.runs.plan import SweepPlan
from mull.runs.run import Ready
from mull.runs.sessions.loading import check_one_lambda_each, folders_of, prepared
from mull.runs.sessions.observer import Observer

if TYPE_CHECKING:
    from mull.engines.local.needs import Needs


@dataclass(frozen=True, kw_only=True)
class VllmLoader:
    """Starts vLLM on a plan's checkpoints."""

    dtype: str | None = None
    """Of the arithmetic, as torch calls it; None: float32 on CPU, else that of the checkpoint."""
    ends: str | None = None
    """Where the checkpoints' weights are kept, a `mull.engines.weights.placement.Placement`; None: on the device."""
    batch_size: int | None = None
    """Requests at once; None: as vLLM decides."""
    trust_remote_code: bool = False
    unrounded: bool = False
    """Θ(λ) without the rounding of a merged checkpoint: a λ per request, so that responses of all λ share batches."""
    strict: bool = False
    """Refuse a token limit that does not fit the context, instead of lowering it with a notice."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Further arguments of `vllm.LLM`."""

    def needs(self, plan: SweepPlan, observer: Observer) -> Needs | None:
        return None

    def could_be(self, plan: SweepPlan, engine: str) -> bool:
        return plan.pair is not None and engine == self._name(plan, engine.rpartition("/")[2])

    def name(self, plan: SweepPlan, observer: Observer) -> str:
        if self.unrounded:
            check_one_lambda_each(plan.settings)
        with observer.busy("looking for vLLM"):
            from mull.engines.vllm import versions

            versions.check()
            return self._name(plan, versions.device())

    def _name(self, plan: SweepPlan, kind: str) -> str:
        assert plan.pair is not None
        return arithmetic(plan.pair.donor.folder, kind, self.dtype, unrounded=self.unrounded, engine="vllm")

    def load(self, plan: SweepPlan, observer: Observer) -> Ready:
        pair = plan.pair
        assert pair is not None
        prompts, rendered = prepared(plan, observer, trust_remote_code=self.trust_remote_code, strict=self.strict)
        longest = max(map(len, rendered.values()))
        most = max((setting.sampling or plan.sampling).max_tokens for setting in plan.settings)
        with observer.busy("starting vLLM"):
            from mull.engines.vllm.engine import VllmEngine
            from mull.engines.weights.placement import Placement

            engine = VllmEngine(
                folders_of(plan),
                donor=pair.donor_side,
                dtype=self.dtype,
                batch_size=self.batch_size,
                context=longest + most,  # a longer one would ask for memory that no response uses
                ends=Placement(self.ends) if self.ends else None,
                by_row=self.unrounded,
                trust_remote_code=self.trust_remote_code,
                prompts=prompts,
                options=self.options,
            )
        return Ready(engine, rendered, engine.kernels, engine.close)
