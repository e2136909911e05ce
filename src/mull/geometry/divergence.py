"""How well an adapter replaces interpolation: KL divergence of the next-token distributions of two models.

Computes KL(Θ(λ) ‖ Instruct + λ·adapter) at the end of prompts and, for comparison, KL(Θ(λ) ‖ Instruct). Reads the
adapter's files and changes the weights itself; knows no adapter library and not how the adapter was made.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedModel

from mull.engines.forward import cache_name, own_attention
from mull.engines.local.templates import token_ids
from mull.engines.memory import MEMORY_REMEDY, memory_errors
from mull.engines.weights.interpolated import InterpolatedModel, loading
from mull.errors import MullError
from mull.geometry.mixtures import one_thread_if_small
from mull.geometry.prompts import Messages
from mull.merging.adapter.writing import PREFIX, WEIGHTS
from mull.merging.coefficients import Coefficients


class Mean(NamedTuple):
    """Mean KL divergence in nats per token, and its standard error over prompts (NaN for a single prompt)."""

    mean: float
    error: float


class Divergence(NamedTuple):
    """KL divergences at one λ."""

    lam: float
    instruct: Mean
    """KL(Θ(λ) ‖ Instruct): the divergence without an adapter."""
    adapter: Mean
    """KL(Θ(λ) ‖ Instruct + λ·adapter)."""


def divergences(
    instruct: Path,
    thinking: Path,
    adapter: Path,
    prompts: Sequence[Messages],
    lams: Iterable[float] = (1.0,),
    *,
    positions: int = 1,
    trust_remote_code: bool = False,
    progress: Callable[[int], object] | None = None,
) -> list[Divergence]:
    """Mean KL divergence at each λ, over `positions` per prompt: its end and the first tokens of Thinking's answer.

    Prompts are rendered with the Thinking side's chat template. Weights are those of `mull merge`; on CPU the adapter
    is added in float32, and distributions are compared in float64. `progress` is called with 1 after each forward pass
    over a prompt, `passes(...)` times in total.

    Raises:
        MullError: the adapter names a weight that the model lacks, a prompt does not fit, or memory runs out.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with memory_errors(f"on {device} while measuring KL", MEMORY_REMEDY):
        weights = InterpolatedModel(
            instruct, thinking, donor="instruct", device=device, dtype=None, trust_remote_code=trust_remote_code
        )
        with loading("tokenizer", thinking, trust_remote_code):
            tokenizer = AutoTokenizer.from_pretrained(thinking, trust_remote_code=trust_remote_code)
        limit = int(weights.model.config.get_text_config().max_position_embeddings) - positions
        rendered = [_render(tokenizer, prompt, limit).to(device) for prompt in prompts]
        factors = _Adapter(weights.model, adapter)
        with one_thread_if_small(weights.model):
            stop_id = tokenizer.eos_token_id
            return _divergences(weights, factors, rendered, lams, positions, stop_id, progress or (lambda _: None))


def passes(prompts: int, lams: int) -> int:
    """Number of passes that `divergences` reports to `progress`."""
    return prompts * (2 + 2 * lams)


def _divergences(
    weights: InterpolatedModel,
    adapter: _Adapter,
    prompts: list[Tensor],
    lams: Iterable[float],
    positions: int,
    stop_id: int | None,
    report: Callable[[int], object],
) -> list[Divergence]:
    model = weights.model
    # Not the row cache's attention, since the passes are over whole sequences.
    model.config._attn_implementation = own_attention(model)
    weights.set(Coefficients.scalar(1.0))
    sequences = []
    for tokens in prompts:
        sequences.append(_continued(model, tokens, positions - 1, stop_id))
        report(1)

    def distributions() -> list[Tensor]:
        found = []
        for prompt, tokens in zip(prompts, sequences, strict=True):
            found.append(_log_probabilities(model, tokens, tokens.shape[1] - prompt.shape[1] + 1))
            report(1)
        return found

    weights.set(Coefficients.scalar(0.0))
    base = distributions()
    results = []
    for lam in lams:
        weights.set(Coefficients.scalar(lam))
        merged = distributions()
        weights.set(Coefficients.scalar(0.0))
        with adapter.applied(lam):
            adapted = distributions()
        results.append(Divergence(lam, _mean(merged, base), _mean(merged, adapted)))
    return results


class _Adapter:
    """An adapter's tensors and the model weights that they change."""

    def __init__(self, model: PreTrainedModel, folder: Path) -> None:
        live = dict(model.named_parameters(remove_duplicate=False))
        tensors = load_file(folder / WEIGHTS)
        self._factors: list[tuple[Tensor, Tensor, Tensor]] = []
        """(live weight, A, B)"""
        self._whole: list[tuple[Tensor, Tensor]] = []
        """(live weight, its replacement)"""
        for name, tensor in tensors.items():
            module, lora, factor = name.removeprefix(PREFIX).partition(".lora_")
            if not lora:
                self._whole.append((_weight(live, module, tensor.shape), tensor))
            elif factor == "A.weight":
                b = tensors[name.replace(".lora_A.", ".lora_B.")]
                shape = torch.Size((b.shape[0], tensor.shape[1]))
                self._factors.append((_weight(live, f"{module}.weight", shape), tensor, b))

    @contextmanager
    def applied(self, scale: float) -> Iterator[None]:
        """Adds `scale`·B·A to the model's weights, which must be the base model's.

        Afterwards only replaced weights are restored; the others must be set again.
        """
        kept = [live.clone() for live, _ in self._whole]
        with torch.no_grad():
            for live, a, b in self._factors:
                live += (scale * (b.to(live.device).float() @ a.to(live.device).float())).to(live.dtype)
            for live, tensor in self._whole:
                live.copy_(tensor)
        yield
        with torch.no_grad():
            for (live, _), tensor in zip(self._whole, kept, strict=True):
                live.copy_(tensor)


def _weight(live: Mapping[str, Tensor], name: str, shape: torch.Size) -> Tensor:
    """The model's weight that is called `name` in checkpoints; transformers stacks a layer's experts in two tensors."""
    found = live.get(name)
    expert = re.fullmatch(r"(.+\.experts)\.(\d+)\.(gate|up|down)_proj\.weight", name)
    if expert:
        stack = live.get(f"{expert[1]}.{'down_proj' if expert[3] == 'down' else 'gate_up_proj'}")
        if stack is not None and stack.dim() == 3 and int(expert[2]) < len(stack):
            found = stack[int(expert[2])]
            if expert[3] != "down":
                found = found.chunk(2)[0 if expert[3] == "gate" else 1]
    if found is None or found.shape != shape:
        raise MullError(
            f"the transformers model has no weight {name} of shape {list(shape)}, which the adapter changes",
            "leave out --prompts, or the modules that transformers keeps in another form (--modules)",
        )
    return found


def _render(tokenizer: Any, messages: Messages, limit: int) -> Tensor:
    """Token ids `[1, L]`, ready for an assistant's turn; without the template if the tokenizer has none."""
    try:
        if tokenizer.chat_template:
            ids = token_ids(tokenizer, messages, limit)
        else:
            ids = tokenizer("\n".join(message["content"] for message in messages))["input_ids"]
    except (MullError, KeyError, TypeError) as error:
        raise MullError(f"a prompt cannot be rendered: {error}", "give messages with role and content") from None
    if not 0 < len(ids) <= limit:
        raise MullError(
            f"a prompt has {len(ids)} tokens, the context leaves {max(limit, 0)} beside the positions to be compared",
            "shorten it, or compare fewer positions",
        )
    return torch.tensor([ids])


@torch.inference_mode()
def _continued(model: PreTrainedModel, tokens: Tensor, count: int, stop_id: int | None) -> Tensor:
    """`tokens` `[1, L]` and their greedy continuation: at most `count` tokens, without the end-of-text token."""
    step, cache, name = tokens, None, cache_name(model)
    for _ in range(count):
        output = model(input_ids=step, use_cache=True, **{name: cache})
        step, cache = output.logits[:, -1:].argmax(-1), output[name]
        if step.item() == stop_id:
            break
        tokens = torch.cat([tokens, step], dim=1)
    return tokens


@torch.inference_mode()
def _log_probabilities(model: PreTrainedModel, tokens: Tensor, positions: int) -> Tensor:
    """Natural log of the next-token probabilities at the last `positions`: float64 `[positions, V]`."""
    logits: Tensor = model(input_ids=tokens, use_cache=False).logits
    return logits[0, -positions:].double().log_softmax(-1).cpu()


def _mean(log_p: list[Tensor], log_q: list[Tensor]) -> Mean:
    """KL(P ‖ Q) = Σ p·(log p − log q) (Kullback and Leibler 1951), mean over tokens, then over prompts."""
    kl = torch.stack([(p.exp() * (p - q)).nan_to_num(0.0).sum(-1).mean() for p, q in zip(log_p, log_q, strict=True)])
    error = kl.std().item() / len(kl) ** 0.5 if len(kl) > 1 else float("nan")
    return Mean(kl.mean().item(), error)
