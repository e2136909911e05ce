"""One live model whose weights are set to any λ, in place, from the two pristine ends.

Never incrementally: 0.3 → 0.8 → 0.3 gives the first bytes again. Knows no text and no requests.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel
from transformers.utils import logging

from mull.engines.forward import own_attention
from mull.engines.memory import MEMORY_REMEDY, memory_errors
from mull.engines.weights.combining import LiveParameter, combine, interpolate_each
from mull.engines.weights.placement import Placement, chosen_placement, place, weight_bytes
from mull.errors import MullError, is_panic
from mull.merging.coefficients import Coefficients
from mull.merging.coefficients.recipe import Recipe
from mull.words import counted


class InterpolatedModel:
    """The live model, in its compute dtype, and the ends' parameters, in their checkpoint dtype.

    Until the first `set` the live weights are the donor's. The donor also gives the config, the dtype to which merged
    weights are rounded, the vocabulary rows that the other end lacks, and the buffers.
    """

    def __init__(
        self,
        instruct: Path,
        thinking: Path,
        *,
        donor: Literal["instruct", "thinking"],
        device: torch.device,
        dtype: torch.dtype | None,
        trust_remote_code: bool,
        attention: str | None = None,
        others: Mapping[str, Path] | None = None,
        ends: Placement | None = None,
    ) -> None:
        """`attention`: the name of a transformers attention implementation, by default `own_attention`.

        `ends`: where the checkpoints' weights are kept, by default `chosen_placement`. The mixed weights are the same.
        """
        folders = {"instruct": instruct, "thinking": thinking, **(others or {})}
        options: dict[str, Any] = {"trust_remote_code": trust_remote_code}
        for folder in folders.values():
            if not (folder / "config.json").is_file():
                raise MullError(f"{folder} is no model folder: it has no config.json", "Give a checkpoint's folder")
            with loading("config", folder, trust_remote_code):
                config = AutoConfig.from_pretrained(folder, **options)
            if getattr(config, "quantization_config", None) is not None:
                raise MullError(f"{folder} is quantised", "Interpolation needs the unquantised checkpoint")
        if dtype is None and device.type == "cpu":
            dtype = torch.float32
        placement = chosen_placement(weight_bytes(folders, donor, dtype), device, ends)
        models = {
            side: place(load(folder, dtype="auto", **options), placement, device) for side, folder in folders.items()
        }
        weights = {side: dict(model.named_parameters(remove_duplicate=False)) for side, model in models.items()}
        tied = all(_is_tied(model) for model in models.values())
        config = copy.deepcopy(models[donor].config)
        for level in (config, config.get_text_config()):
            level.tie_word_embeddings = tied
        self.model = load(
            folders[donor], config=config, dtype=dtype or "auto", attn_implementation=attention, **options
        )
        if attention is None:
            self.model.config._attn_implementation = own_attention(self.model)
        torch.nn.Module.to(self.model, device)
        if not tied:  # a tied donor's file has no head for an untied model
            head = _head(self.model)
            name = next(name for name, parameter in self.model.named_parameters() if parameter is head)
            head.data.copy_(weights[donor][name])
        self.parameters = _live_parameters(self.model, weights, donor, folders)
        """The live parameters with their ends; tied parameters appear once."""

    def set(self, coefficients: Coefficients) -> None:
        """Gives every parameter its λ. The tensors stay where they are (`data_ptr`).

        Each element is rounded to the checkpoint's dtype as `mull merge` rounds it, and then cast: the live weights are
        those of the merged checkpoint. Raises `MullError` where the coefficients name no λ for a parameter.
        """
        interpolate_each(self.parameters, coefficients.resolve([parameter.name for parameter in self.parameters]))

    def make(self, recipe: Recipe) -> None:
        """Sets the weights to those of any method on the checkpoints held; like `set`, the bytes of the merge.

        Raises `MullError` where a role is not held, or a coefficient names no parameter.
        """
        if recipe.is_interpolation:
            self.set(recipe.coefficients)
        else:
            combine(self.parameters, recipe)


@contextmanager
def loading(part: str, folder: Path, trust_remote_code: bool) -> Iterator[None]:
    """Turns whatever transformers raises over a folder's `part` into a `MullError` that names both."""
    try:
        with memory_errors(f"while loading {folder}", MEMORY_REMEDY):
            yield
    except MullError:
        raise
    except BaseException as error:  # a loader of foreign files: its errors have no common type
        if not (isinstance(error, Exception) or is_panic(error)):
            raise
        reason = " ".join(str(error).split()) or type(error).__name__
        if "trust_remote_code" in reason and not trust_remote_code:
            raise MullError(
                f"{folder} brings Python code of its own, without which transformers cannot load its {part}",
                "Read that code, then give --trust-remote-code",
            ) from error
        raise MullError(
            f"transformers cannot load the {part} of {folder}: {reason.rstrip('.')}",
            "Give a folder with a complete checkpoint that the installed transformers knows",
        ) from error


def load(folder: Path, **options: Any) -> PreTrainedModel:
    """A folder's model, for reading only. `options` are of transformers, `trust_remote_code` among them.

    Raises `MullError` where weights are missing.
    """
    bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        with loading("weights", folder, options["trust_remote_code"]):
            loaded: Any = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True, **options)
            model, report = loaded
    finally:
        if bars:
            logging.enable_progress_bar()
    # transformers would go on with random numbers in their place. The live model's own are all written over later.
    if report["missing_keys"] and "config" not in options:
        first = sorted(report["missing_keys"])[0]
        what = f"{folder} lacks {len(report['missing_keys'])} weights that its config asks for, first {first}"
        raise MullError(what, "download or save the checkpoint again")
    return model.eval().requires_grad_(False)


def _head(model: PreTrainedModel) -> Tensor:
    head = model.get_output_embeddings()
    if head is None:
        raise MullError(
            f"model type {model.config.model_type!r} has no output embedding", "Give a causal language model"
        )
    return next(iter(head.parameters()))


def _is_tied(model: PreTrainedModel) -> bool:
    """Whether head and embedding share their weights. A config may say so where the file stores another head."""
    return _head(model) is next(model.get_input_embeddings().parameters())


def _live_parameters(
    model: PreTrainedModel,
    ends: Mapping[str, Mapping[str, Tensor]],
    donor: Literal["instruct", "thinking"],
    folders: dict[str, Path],
) -> list[LiveParameter]:
    """Pairs the parameters by name; a live parameter that is tied to another appears once."""
    live = dict(model.named_parameters())
    names = dict(model.named_parameters(remove_duplicate=False)).keys()
    for role, parameters in ends.items():
        unmatched = sorted(names ^ parameters.keys())
        if unmatched:
            raise MullError(
                f"{folders[role]} and {folders[donor]} differ in {counted(len(unmatched), 'parameter')}, "
                f"as in {unmatched[0]!r}",
                "All must be checkpoints of one architecture",
            )
    vocabulary = {id(_head(model)), *map(id, model.get_input_embeddings().parameters())}
    parameters = []
    for name, parameter in live.items():
        own = {role: parameters[name].detach() for role, parameters in ends.items()}
        shapes = {tensor.shape for tensor in own.values()}
        if len(shapes) > 1:
            if id(parameter) not in vocabulary or len({shape[1:] for shape in shapes}) > 1:
                sizes = ", ".join(f"{tuple(tensor.shape)} in {folders[role]}" for role, tensor in own.items())
                raise MullError(f"{name} is {sizes}", "All must be checkpoints of one architecture")
            rows = min(shape[0] for shape in shapes)
            own = {role: tensor[:rows] for role, tensor in own.items()}
        rounded = ends[donor][name].dtype
        data = parameter.detach()
        shape = own[donor].shape
        parameters.append(
            LiveParameter(name, data if data.shape == shape else data[: shape[0]], _contiguous(own), rounded)
        )
    return parameters


def _contiguous(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {role: tensor.contiguous() for role, tensor in tensors.items()}
