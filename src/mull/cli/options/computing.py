"""The options of computing in this process: device, dtype, memory."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, ClassVar

import typer

from mull.runs.sessions.loading import LocalLoader


class Dtype(StrEnum):
    """The arithmetic's number format."""

    auto = "auto"
    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


class Ends(StrEnum):
    """Where the checkpoints' weights are kept: `mull.engines.weights.placement.Placement`, which needs torch."""

    auto = "auto"
    device = "device"
    memory = "memory"
    files = "files"


class Arithmetic(StrEnum):
    """Whether the weights of Θ(λ) are rounded as those of a merged checkpoint."""

    rounded = "rounded"
    unrounded = "unrounded"


@dataclass(frozen=True, kw_only=True)
class ComputingOptions:
    """Where and how the model runs."""

    PANEL: ClassVar[str] = "Computing"

    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 …, or mps (Apple's GPUs; untested).")] = "auto"
    dtype: Annotated[
        Dtype,
        typer.Option(
            help="Of the arithmetic; auto: float32 on CPU, else the checkpoint's. bfloat16 on CPU takes half the "
            "memory, and pays where the processor multiplies it (avx512_bf16, amx_bf16)."
        ),
    ] = Dtype.auto
    ends: Annotated[
        Ends,
        typer.Option(
            help="Where both checkpoints' weights are kept beside the mixed ones: on the device, in CPU memory, or in "
            "their mapped files. auto: on a GPU if they leave a third of its memory, else in files."
        ),
    ] = Ends.auto
    batch_size: Annotated[
        int | None, typer.Option(help="Responses generated at once (default: as many as fit into memory).", min=1)
    ] = None
    arithmetic: Annotated[
        Arithmetic,
        typer.Option(
            help="rounded: the weights of the checkpoint that `mull merge` would write. unrounded: Θ(λ) itself; all λ "
            "in one batch."
        ),
    ] = Arithmetic.rounded
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Run code that ships with the model.")
    ] = False

    def loader(self, *, strict: bool) -> LocalLoader:
        """Loads a plan's checkpoints as these options say. `strict`: see `LocalLoader`."""
        return LocalLoader(
            device=self.device,
            dtype=None if self.dtype == Dtype.auto else self.dtype.value,
            ends=None if self.ends == Ends.auto else self.ends.value,
            batch_size=self.batch_size,
            trust_remote_code=self.trust_remote_code,
            unrounded=self.arithmetic == Arithmetic.unrounded,
            strict=strict,
        )
