"""Loaders make the engine that answers a plan: in this process, or by servers. They refuse prompts and limits that do
not fit before weights are loaded, and import torch only if there is something to compute."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from mull.engines.local.arithmetic import arithmetic
from mull.errors import MullError, naming
from mull.runs.plan import SweepPlan
from mull.runs.run import Ready, SwitchingEngine, render_prompts
from mull.runs.sessions.observer import Observer
from mull.runs.settings import Setting

if TYPE_CHECKING:
    from mull.engines.local.needs import Needs
    from mull.engines.local.prompts import Prompts
    from mull.engines.remote.engine import RemoteEngine


class Loader(Protocol):
    """Makes the engine of a plan."""

    def needs(self, plan: SweepPlan, observer: Observer) -> Needs | None:
        """The memory that `load` will need, without loading weights; None if this process holds none.

        Raises `MullError` if the weights cannot fit.
        """
        ...

    def could_be(self, plan: SweepPlan, engine: str) -> bool:
        """Whether `engine`, a name that another session recorded, may be this engine's; answers without torch."""
        ...

    def name(self, plan: SweepPlan, observer: Observer) -> str:
        """The engine and arithmetic that will answer, for `SweepPlan.engine`."""
        ...

    def load(self, plan: SweepPlan, observer: Observer) -> Ready:
        """The engine and the prompts. Raises `MullError` if prompts or limits do not fit, or loading fails."""
        ...


@dataclass(frozen=True, kw_only=True)
class LocalLoader:
    """Loads a plan's checkpoints into an engine of this process."""

    device: str = "auto"
    dtype: str | None = None
    """Of the arithmetic, as torch calls it; None: float32 on CPU, else that of the checkpoint."""
    ends: str | None = None
    """Where the checkpoints' weights are kept, a `mull.engines.weights.placement.Placement`; None: as they fit."""
    batch_size: int | None = None
    """Responses generated at once; None: as many as fit into memory."""
    trust_remote_code: bool = False
    unrounded: bool = False
    """Θ(λ) without the rounding of a merged checkpoint: a λ per row, so that responses of all λ share batches."""
    strict: bool = False
    """Refuse a token limit that does not fit the context, instead of lowering it with a notice."""

    def needs(self, plan: SweepPlan, observer: Observer) -> Needs | None:
        assert plan.pair is not None
        with observer.busy("reading the configs"):
            from mull.engines.local.engine import BATCH_SIZE, device_of
            from mull.engines.local.needs import memory_needs

            return memory_needs(
                folders_of(plan),
                plan.pair.donor_side,
                device_of(self.device),
                tokens=max((setting.sampling or plan.sampling).max_tokens for setting in plan.settings),
                batch_size=self.batch_size or BATCH_SIZE,
                trust_remote_code=self.trust_remote_code,
                by_row=self.unrounded,
                **self._kept(),
            )

    def could_be(self, plan: SweepPlan, engine: str) -> bool:
        kind = engine.rpartition("/")[2]
        same_device = self.device == "auto" or self.device.partition(":")[0] == kind
        if plan.pair is None or not same_device:
            return False
        return engine == arithmetic(plan.pair.donor.folder, kind, self.dtype, unrounded=self.unrounded)

    def name(self, plan: SweepPlan, observer: Observer) -> str:
        assert plan.pair is not None
        if self.unrounded:
            check_one_lambda_each(plan.settings, "--arithmetic unrounded")
        kind = self.device
        if kind != "cpu":
            with observer.busy("starting torch"):
                from mull.engines.local.engine import device_of

                kind = device_of(kind).type
        return arithmetic(plan.pair.donor.folder, kind, self.dtype, unrounded=self.unrounded)

    def load(self, plan: SweepPlan, observer: Observer) -> Ready:
        pair = plan.pair
        assert pair is not None
        prompts, rendered = prepared(plan, observer, trust_remote_code=self.trust_remote_code, strict=self.strict)
        with observer.busy("loading the checkpoints"):
            from mull.engines.local.engine import LocalEngine

            engine = LocalEngine(
                pair.instruct.folder,
                pair.thinking.folder,
                donor=pair.donor_side,
                device=self.device,
                batch_size=self.batch_size,
                trust_remote_code=self.trust_remote_code,
                others={role: checkpoint.folder for role, checkpoint in plan.others.items()},
                prompts=prompts,
                by_row=self.unrounded,
                **self._kept(),
            )
        return Ready(engine, rendered, engine.kernels)

    def _kept(self) -> dict[str, Any]:
        import torch

        from mull.engines.weights.placement import Placement

        return {
            "dtype": getattr(torch, self.dtype) if self.dtype else None,
            "ends": Placement(self.ends) if self.ends else None,
        }


@dataclass(frozen=True)
class RemoteLoader:
    """Checks that the servers can answer, and renders the prompts as they will be sent."""

    engine: RemoteEngine

    def needs(self, plan: SweepPlan, observer: Observer) -> Needs | None:
        return None

    def could_be(self, plan: SweepPlan, engine: str) -> bool:
        return engine == "remote"

    def name(self, plan: SweepPlan, observer: Observer) -> str:
        return "remote"

    def load(self, plan: SweepPlan, observer: Observer) -> Ready:
        with observer.busy("asking the servers"):
            self.engine.check(plan.sampling.max_tokens)
        with observer.counting("preparing the prompts", len(plan.benchmark.questions())) as advance:
            return Ready(self.engine, render_prompts(plan, self.engine, advance))


@dataclass(frozen=True)
class GivenLoader:
    """An engine that the caller has made."""

    engine: SwitchingEngine
    called: str
    """Its name in the plan."""

    def needs(self, plan: SweepPlan, observer: Observer) -> Needs | None:
        return None

    def could_be(self, plan: SweepPlan, engine: str) -> bool:
        return engine == self.called

    def name(self, plan: SweepPlan, observer: Observer) -> str:
        return self.called

    def load(self, plan: SweepPlan, observer: Observer) -> Ready:
        return Ready(self.engine, render_prompts(plan, self.engine))


def prepared(
    plan: SweepPlan, observer: Observer, *, trust_remote_code: bool, strict: bool
) -> tuple[Prompts, dict[str, tuple[int, ...]]]:
    """The donor's tokenizer, and the token ids of all prompts; says so if the token limit does not fit the context.

    Raises `MullError` for prompts that leave no room, and with `strict` for a limit that does not fit.
    """
    assert plan.pair is not None
    with observer.busy("reading the tokenizer"):
        from mull.engines.local.prompts import Prompts

        prompts = Prompts(plan.pair.donor.folder, trust_remote_code, plan.tags, plan.template_date)
    with observer.counting("preparing the prompts", len(plan.benchmark.questions())) as advance:
        rendered = render_prompts(plan, prompts, advance)
    longest: dict[str, int] = {}
    for question in plan.benchmark.questions():
        longest[question.benchmark] = max(longest.get(question.benchmark, 0), len(rendered[question.id]))
    for benchmark, length in longest.items():
        limit = plan.limits.get(benchmark, plan.sampling.max_tokens)
        with naming(benchmark) if benchmark else nullcontext():
            notice = limit_notice(limit, prompts.context, length, strict=strict)
        if notice:
            observer.say(f"{benchmark}: {notice}" if benchmark else notice)
    return prompts, rendered


def folders_of(plan: SweepPlan) -> dict[str, Path]:
    """The checkpoints of a plan by role."""
    assert plan.pair is not None
    checkpoints = {"instruct": plan.pair.instruct, "thinking": plan.pair.thinking, **plan.others}
    return {role: checkpoint.folder for role, checkpoint in checkpoints.items()}


def check_one_lambda_each(settings: Sequence[Setting], what: str) -> None:
    """Raises `MullError` for a setting that a λ per row cannot express. `what` has such rows, in words."""
    for setting in settings:
        if not (setting.recipe.is_interpolation and setting.recipe.coefficients.is_scalar):
            raise MullError(
                f"{what} computes one λ for the whole model, and {setting.label!r} is more than that",
                "leave it out",
            )


def limit_notice(limit: int, context: int, longest: int, *, strict: bool) -> str:
    """A notice if `limit` tokens per response do not fit the context beside the longest prompt; empty if they fit.

    All numbers are tokens. Raises `MullError` if they do not fit and `strict` is set, or no room is left at all.
    """
    room = context - longest
    if limit <= room:
        return ""
    why = f"the model's context is {context:,} tokens, of which the longest prompt takes {longest:,}"
    if room < 1:
        raise MullError(f"a question leaves no room for an answer: {why}", "choose a model with a longer context")
    if strict:
        raise MullError(f"--max-tokens {limit} does not fit: {why}", f"give --max-tokens {room} or less")
    return f"limit per response: {room:,} tokens, not the benchmark's {limit:,}: {why}"
