# pyright: reportMissingImports=false
"""Where vLLM takes a request in: its λ is checked there, its prefix cache salted, its thinking budget made exact.

A cache salt belongs to the prompt and λ to the sampling parameters; the one place that has both is the input processor.
Without a salt a request would read the keys and values that its prompt has at another λ, and give wrong text.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import wraps
from typing import Any

from mull.engines.vllm import versions
from mull.engines.vllm.per_request.options import Options
from mull.engines.vllm.per_request.requests import LAMBDA, cache_salt, lambda_of
from mull.engines.vllm.plugin import NAME
from mull.errors import MullError


def install() -> None:
    """Wraps the input processor of this process; engines without mull go on as before."""
    processor, invalid = versions.input_processor()
    process = processor.process_inputs
    if hasattr(process, "mull"):
        return

    @wraps(process)
    def process_inputs(self: Any, request_id: str, prompt: Any, params: Any, *args: Any, **kwargs: Any) -> Any:
        if self.model_config.quantization != NAME:
            return process(self, request_id, prompt, params, *args, **kwargs)
        default = Options.of(self.vllm_config.load_config.model_loader_extra_config).default_lambda
        try:
            lam = lambda_of(getattr(params, "extra_args", None), default)
        except MullError as error:
            raise invalid(str(error), parameter=LAMBDA) from None  # HTTP: 400
        request = process(self, request_id, prompt, params, *args, **kwargs)
        request.cache_salt = cache_salt(lam, request.cache_salt or "")
        sampling = request.sampling_params
        if sampling is not None and sampling.thinking_token_budget is not None:
            sampling.thinking_token_budget += _blanks(self, request.prompt_token_ids or ())
        return request

    resolve = processor.resolve_watermarking

    @wraps(resolve)
    def resolve_watermarking(self: Any, params: Any) -> Any:
        """Beam search asks this of its own parameters, which hold no λ, before it makes requests without one."""
        if self.model_config.quantization == NAME and type(params).__name__ == "BeamSearchParams":
            raise invalid("beam search has no λ per request", parameter="use_beam_search")
        return resolve(self, params)

    process_inputs.mull = True  # type: ignore[attr-defined]
    processor.process_inputs = process_inputs
    processor.resolve_watermarking = resolve_watermarking


def _blanks(processor: Any, prompt: Sequence[int]) -> int:
    """Tokens of line breaks that a template has written behind the tag with which it opens a thought.

    vLLM counts them as thought, so that a budget of N left N − 1 tokens to the model.
    """
    opening = tuple(processor.vllm_config.reasoning_config.reasoning_start_token_ids or ())
    blanks = 0
    while opening and blanks <= _MOST_BLANKS and blanks + len(opening) <= len(prompt):
        end = len(prompt) - blanks
        if tuple(prompt[end - len(opening) : end]) == opening:
            return blanks if not processor.get_tokenizer().decode(list(prompt[end:])).strip() else 0
        blanks += 1
    return 0


_MOST_BLANKS = 4
