"""The options of computing in this process: device, dtype, memory."""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, ClassVar

import typer

from mull.errors import MullError
from mull.runs.sessions.loading import Loader, LocalLoader
from mull.runs.sessions.vllm import VllmLoader


class EngineName(StrEnum):
    """What generates the responses."""

    local = "local"
    vllm = "vllm"
    vllm_server = "vllm-server"


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


EngineOption = Annotated[
    EngineName,
    typer.Option(
        help="local: transformers' models in this process. vllm: vLLM, for large models; it must be installed in "
        "the same environment, and sets the weights on each of its workers. vllm-server: a server of vLLM is started, "
        "with a λ per request, unrounded; it can have several copies of the model (data_parallel_size=8)."
    ),
]
EngineArguments = Annotated[
    list[str] | None,
    typer.Option(
        help="An argument of vLLM, as in tensor_parallel_size=2 or gpu_memory_utilization=0.8. Repeatable.",
        metavar="NAME=VALUE",
    ),
]


@dataclass(frozen=True, kw_only=True)
class ComputingOptions:
    """Where and how the model runs."""

    PANEL: ClassVar[str] = "Computing"

    engine: EngineOption = EngineName.local
    engine_option: EngineArguments = None
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

    def loader(self, *, strict: bool) -> Loader:
        """Loads a plan's checkpoints as these options say. `strict`: see `LocalLoader`.

        Raises `MullError` for options that the engine does not have.
        """
        shared: dict[str, Any] = {
            "dtype": None if self.dtype == Dtype.auto else self.dtype.value,
            "ends": None if self.ends == Ends.auto else self.ends.value,
            "batch_size": self.batch_size,
            "trust_remote_code": self.trust_remote_code,
            "unrounded": self.arithmetic == Arithmetic.unrounded,
            "strict": strict,
        }
        options = engine_arguments(self.engine, self.engine_option, self.device)
        if self.engine == EngineName.local:
            return LocalLoader(device=self.device, **shared)
        return VllmLoader(options=options, served=self.engine == EngineName.vllm_server, **shared)


def engine_arguments(engine: EngineName, given: list[str] | None, device: str) -> dict[str, Any]:
    """The arguments of vLLM. Raises `MullError` for what the engine does not have."""
    if engine == EngineName.local:
        if given:
            raise MullError("--engine-option is for vLLM", "leave it out, or give --engine vllm")
        return {}
    if device != "auto":
        what = f"vLLM finds its devices itself, and --device {device} was given"
        raise MullError(what, "leave it out; CUDA_VISIBLE_DEVICES chooses among GPUs")
    return dict(map(_option, given or ()))


def _option(text: str) -> tuple[str, Any]:
    """Name and value of an argument; the value as JSON, or as it is."""
    name, equals, value = text.partition("=")
    name = name.strip().replace("-", "_")
    if not equals or not name.isidentifier():
        raise MullError(f"--engine-option {text!r} is no NAME=VALUE", "as in tensor_parallel_size=2")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value
