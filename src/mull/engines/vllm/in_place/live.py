# pyright: reportMissingImports=false
"""The live model of one vLLM worker, whose weights are set to any recipe from this worker's shards of the ends.

Never incrementally: the same recipe gives the same bytes, whatever came before. Parameters keep their memory, as CUDA
graphs need.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mull.engines.vllm import versions
from mull.engines.vllm.in_place.files import Files
from mull.engines.vllm.in_place.regions import Region
from mull.engines.weights.combining import LiveParameter, interpolate_each
from mull.engines.weights.placement import Placement
from mull.errors import MullError
from mull.merging.coefficients.recipe import PAIR, Recipe


class LiveModel:
    """A model that vLLM has loaded, and both ends of its pair in vLLM's own layout.

    An interpolation is computed from the ends where they are kept. Everything else, and any recipe if they stay in
    their files (`Placement.files`), is made as `mull merge` makes it, tensor by tensor, and goes through vLLM's loaders
    again: these know every layout, and methods that look at whole tensors see whole tensors on every rank.
    """

    def __init__(
        self,
        model: nn.Module,
        model_config: Any,
        files: Files,
        regions: Mapping[str, Sequence[Region]],
        placement: Placement,
    ) -> None:
        """`regions`: what was loaded where (`Watch`). The weights must be the donor's; they are so afterwards, too.

        Raises `MullError` if vLLM does not load them again as it did at first: its CPU build packs experts only then.
        """
        self._model, self._model_config, self._files = model, model_config, files
        self._regions = {name: list(found) for name, found in regions.items()}
        self._as_loaded: dict[str, bool] = {}
        self._ends: dict[str, dict[str, Tensor]] = {}
        """By role, then by the name of the live parameter; empty if they stay in files."""
        self._rounded = self._dtypes()
        marks = {name: _mark(parameter) for name, parameter in model.named_parameters()}
        if placement != Placement.files and self._rounded is not None:
            donor = self._files.donor
            self._ends[donor] = self._kept(placement)
            for role in PAIR:
                if role != donor:
                    self._load(self._files.end(role))
                    self._ends[role] = self._kept(placement)
        self._load(self._files.end(self._files.donor))
        changed = [name for name, parameter in self._model.named_parameters() if _mark(parameter) != marks[name]]
        if changed:
            raise MullError(
                f"vLLM loads {changed[0]} into another layout when it loads it again, so that λ cannot be set in place",
                "use the local engine, --arithmetic unrounded, or merged checkpoints",
            )

    @torch.no_grad()
    def set(self, recipe: Recipe) -> None:
        """Gives the live weights the bytes of the merged checkpoint. Raises `MullError` as `Files.merged`."""
        lams = recipe.coefficients.resolve(self._files.names) if recipe.is_interpolation else {}
        parts = list(self._parts(lams)) if recipe.is_interpolation and self._ends else [None]
        if None in parts:
            self._load(self._files.merged(recipe))
        else:
            interpolate_each([part for part in parts if part is not None], lams)

    def _parts(self, lams: Mapping[str, float]) -> Iterator[LiveParameter | None]:
        """The live parameters, or the parts of them that have a λ each; None where a part cannot be told."""
        assert self._rounded is not None
        for name, parameter in self._model.named_parameters():
            if name not in self._rounded:
                continue
            ends = {role: self._ends[role][name] for role in PAIR}
            found, live, rounded = self._regions[name], parameter.data, self._rounded[name]
            if len({lams[region.name] for region in found}) == 1:
                yield LiveParameter(found[0].name, live, ends, rounded)
            elif not self._is_as_loaded(name):
                yield None
            else:
                for region in found:
                    own = {role: region.of(end) for role, end in ends.items()}
                    yield LiveParameter(region.name, region.of(live), own, rounded)

    def _is_as_loaded(self, name: str) -> bool:
        """Whether the regions still say what lies where, and are contiguous: some kernels want another layout."""
        if name not in self._as_loaded:
            donor = self._ends[self._files.donor][name]
            self._as_loaded[name] = all(
                region.of(donor).is_contiguous() and _holds(region.of(donor), self._files.donors(region.name))
                for region in self._regions[name]
            )
        return self._as_loaded[name]

    def _dtypes(self) -> dict[str, torch.dtype] | None:
        """The dtype of the checkpoints by live parameter; None if the live weights cannot hold them exactly."""
        dtypes = {}
        for name, parameter in self._model.named_parameters():
            found = {self._files.dtype(region.name) for region in self._regions.get(name, ())}
            if not found:
                continue
            dtype = found.pop()
            if found or dtype is None or torch.promote_types(dtype, parameter.dtype) != parameter.dtype:
                return None
            dtypes[name] = dtype
        return dtypes

    def _kept(self, placement: Placement) -> dict[str, Tensor]:
        """A copy of the live weights in the checkpoints' dtypes, which loses nothing."""
        assert self._rounded is not None
        parameters = dict(self._model.named_parameters())
        kept = {}
        for name, dtype in self._rounded.items():
            live = parameters[name].data
            device = live.device if placement == Placement.device else torch.device("cpu")
            kept[name] = live.to(device, dtype, copy=True)
            if placement == Placement.memory and live.device.type == "cuda":
                kept[name] = kept[name].pin_memory()
        return kept

    def _load(self, tensors: Iterator[tuple[str, Tensor]]) -> None:
        versions.load_again(self._model, self._model_config, tensors)


def _mark(parameter: Tensor) -> int:
    """A number that another order or other values of the elements change."""
    words = parameter.data.reshape(-1).view(torch.uint8 if parameter.element_size() == 1 else torch.int16)
    places = torch.arange(1, min(_WORDS, len(words)) + 1, device=parameter.device) % _PRIME
    sums = [int((part.long() * places[: len(part)]).sum()) for part in words.split(_WORDS)]
    return sum(total * (number + 1) for number, total in enumerate(sums))


_WORDS = 1 << 24
_PRIME = 65521


def _holds(part: Tensor, whole: Tensor) -> bool:
    """Whether `part` is `whole`, or the rows or columns of it that a tensor-parallel rank has."""
    part = part.cpu()
    if part.shape == whole.shape:
        return torch.equal(part, whole)
    cut = [axis for axis in range(whole.dim()) if part.dim() == whole.dim() and part.shape[axis] != whole.shape[axis]]
    return len(cut) == 1 and any(torch.equal(part, piece) for piece in whole.split(part.shape[cut[0]], cut[0]))
