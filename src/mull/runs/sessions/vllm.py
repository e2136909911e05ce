"""The loader of a plan that vLLM answers, in this process or as a server that is started for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mull.engines.local.arithmetic import arithmetic
from mull.engines.vllm.options import check
from mull.errors import MullError
from mull.merging.coefficients.recipe import PAIR
from mull.runs.plan import SweepPlan
from mull.runs.run import Ready, render_prompts
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
    served: bool = False
    """By a server of its own instead of in this process: unrounded, and a λ per request."""

    def __post_init__(self) -> None:
        """Raises `MullError` for an option of mull's own, and one that a server does not have."""
        check(self.options)
        if self.served and self.ends is not None:
            raise MullError("a server of vLLM has both ends in its layers", "leave --ends out")

    def needs(self, plan: SweepPlan, observer: Observer) -> Needs | None:
        return None

    def could_be(self, plan: SweepPlan, engine: str) -> bool:
        return plan.pair is not None and engine == self._name(plan, engine.rpartition("/")[2])

    def name(self, plan: SweepPlan, observer: Observer) -> str:
        self._check(plan)
        with observer.busy("looking for vLLM"):
            from mull.engines.vllm import versions

            versions.check()
            return self._name(plan, versions.device())

    def _name(self, plan: SweepPlan, kind: str) -> str:
        assert plan.pair is not None
        engine, unrounded = ("vllm-server", True) if self.served else ("vllm", self.unrounded)
        return arithmetic(plan.pair.donor.folder, kind, self.dtype, unrounded=unrounded, engine=engine)

    def _check(self, plan: SweepPlan) -> None:
        """Raises `MullError` for what this engine cannot be asked for. A run that goes on may have new settings."""
        if self.served or self.unrounded:
            check_one_lambda_each(plan.settings, "a server of vLLM" if self.served else "--arithmetic unrounded")
        if not self.served:
            return
        limits = (setting.sampling or plan.sampling for setting in plan.settings)
        if any(each.budget_message for each in limits):
            what = "--budget-message cannot be had from servers, which are sent thinking_token_budget only"
            raise MullError(what, "Leave it out, or take --engine vllm")

    def load(self, plan: SweepPlan, observer: Observer) -> Ready:
        pair = plan.pair
        assert pair is not None
        self._check(plan)
        prompts, rendered = prepared(plan, observer, trust_remote_code=self.trust_remote_code, strict=self.strict)
        longest = max(map(len, rendered.values()))
        most = max((setting.sampling or plan.sampling).max_tokens for setting in plan.settings)
        context = longest + most  # a longer one would ask for memory that no response uses
        with observer.busy("starting vLLM"):
            if self.served:
                return self._started(plan, min(context, prompts.context))
            from mull.engines.vllm.engine import VllmEngine
            from mull.engines.weights.placement import Placement

            engine = VllmEngine(
                folders_of(plan),
                donor=pair.donor_side,
                dtype=self.dtype,
                batch_size=self.batch_size,
                context=context,
                ends=Placement(self.ends) if self.ends else None,
                by_row=self.unrounded,
                trust_remote_code=self.trust_remote_code,
                prompts=prompts,
                options=self.options,
            )
        return Ready(engine, rendered, engine.kernels, engine.close)

    def _started(self, plan: SweepPlan, context: int) -> Ready:
        from mull.engines.vllm.served import ServedEngine

        assert plan.pair is not None
        engine = ServedEngine(
            {side: folder for side, folder in folders_of(plan).items() if side in PAIR},
            [setting.recipe.coefficients.default for setting in plan.settings],
            donor=plan.pair.donor_side,
            dtype=self.dtype,
            batch_size=self.batch_size,
            context=context,
            trust_remote_code=self.trust_remote_code,
            options=self.options,
        )
        return Ready(engine, render_prompts(plan, engine), engine.kernels, engine.close)
