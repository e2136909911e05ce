"""The checkpoints' tensors as vLLM's loaders take them: whole, one by one, under the donor's names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from mull.checkpoints.checkpoint import Checkpoint
from mull.checkpoints.headers import FLOATING, TensorInfo
from mull.checkpoints.pair import AlignedTensor, Group
from mull.engines.weights.combining import Ends, merged
from mull.merging.coefficients.recipe import Recipe

_DTYPES = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32, "F64": torch.float64}


class Files:
    """Checkpoints of one model by role, read from their mapped files when a tensor is taken."""

    def __init__(self, folders: Mapping[str, Path], donor: str) -> None:
        """`donor`: the role that gives names, layout and the vocabulary rows that others lack."""
        self.roles = list(folders)
        self.donor = donor
        self._checkpoints = {role: Checkpoint(folder) for role, folder in folders.items()}
        group = Group(list(self._checkpoints.values()), donor=self.roles.index(donor))
        self._tensors = {each.name: each for each in group.tensors}
        self._mixed = [each for each in self._tensors.values() if each.donor.dtype in FLOATING]

    @property
    def names(self) -> list[str]:
        """The parameters that can be mixed."""
        return [each.name for each in self._mixed]

    def dtype(self, name: str) -> torch.dtype | None:
        """The dtype to which a merge rounds the tensor; None for one that is not mixed."""
        each = self._tensors.get(name)
        return _DTYPES.get(each.donor.dtype) if each else None

    def end(self, role: str) -> Iterator[tuple[str, Tensor]]:
        """The tensors of the checkpoint `role`, in the donor's layout."""
        for name, each in self._tensors.items():
            if each.donor.dtype not in FLOATING or role == self.donor:
                yield name, self._tensor(each.donor)
            else:
                part = self._part(each.models[self.roles.index(role)], each.shared)
                yield name, self._whole(each, part.to(_DTYPES[each.donor.dtype]))

    def donors(self, name: str) -> Tensor:
        """The donor's tensor, as `end` gives it."""
        return self._tensor(self._tensors[name].donor)

    def merged(self, recipe: Recipe) -> Iterator[tuple[str, Tensor]]:
        """The tensors of the checkpoint that `mull merge` would write.

        Raises `MullError` where a role is not held, or a coefficient names no parameter.
        """
        parameters = [
            Ends(
                each.name,
                {role: self._part(model, each.shared) for role, model in zip(self.roles, each.models, strict=True)},
                _DTYPES[each.donor.dtype],
            )
            for each in self._mixed
        ]
        for name, tensor in merged(parameters, recipe):
            yield name, self._whole(self._tensors[name], tensor)
        for name, each in self._tensors.items():
            if each.donor.dtype not in FLOATING:
                yield name, self._tensor(each.donor)

    def _whole(self, each: AlignedTensor, flat: Tensor) -> Tensor:
        """The leading elements in the donor's shape, followed by the donor's own where it has more."""
        if len(flat) < each.donor.numel:
            flat = torch.cat([flat, self._tensor(each.donor).view(-1)[len(flat) :]])
        return flat.view(each.donor.shape)

    def _part(self, info: TensorInfo, count: int) -> Tensor:
        return self._tensor(info).view(-1)[:count]

    def _tensor(self, info: TensorInfo) -> Tensor:
        """A view of the mapped file. Nothing may be written to it."""
        from safetensors import safe_open

        with safe_open(info.file, "pt") as file:
            return file.get_tensor(info.name)
