"""The plan of a merge: which input tensors are combined, how, and where in the output the result is written.

Made from headers, without reading tensor data. Names, shapes, dtypes, coefficients and disk space are checked before
anything is written.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from mull import __version__
from mull.checkpoints.checkpoint import INDEX, SINGLE, Checkpoint
from mull.checkpoints.config import untied
from mull.checkpoints.folder_files import check_companions
from mull.checkpoints.headers import FLOATING, ITEM_BYTES, TensorInfo, layout_header
from mull.checkpoints.pair import AlignedTensor, Group
from mull.errors import MullError
from mull.merging.coefficients import Coefficients
from mull.merging.coefficients.varying import Varying
from mull.merging.methods import Method
from mull.merging.methods.mi import Mi
from mull.words import format_bytes

DTYPES = {"bfloat16": "BF16", "float16": "F16", "float32": "F32"}


@dataclass(frozen=True)
class OutputTensor:
    """One tensor of the result."""

    source: AlignedTensor
    dtype: str
    coefficient: float
    """λ or α, whichever the method uses."""
    start: int
    """Byte offset in the shard file."""
    nbytes: int


@dataclass(frozen=True)
class OutputShard:
    """One safetensors file of the result."""

    file: str
    header: bytes
    tensors: list[OutputTensor]

    @property
    def nbytes(self) -> int:
        return len(self.header) + sum(tensor.nbytes for tensor in self.tensors)


@dataclass(frozen=True)
class MergePlan:
    """Everything a merge will do."""

    group: Group
    method: Method
    coefficients: Coefficients
    dtype: str | None
    """safetensors dtype of all floating tensors, or None for the donor's own."""
    shards: list[OutputShard]
    allow_non_finite: bool = False
    """Whether NaN and infinity may be written."""
    varying: Varying = field(default_factory=Varying)
    """Parameters of the method that differ from tensor to tensor."""

    @cached_property
    def methods(self) -> dict[str, Method]:
        """The method with its parameters for each tensor."""
        names = [tensor.source.name for shard in self.shards for tensor in shard.tensors]
        if not self.varying.parameters:
            return dict.fromkeys(names, self.method)
        return self.varying.methods(self.method, names, len(self.group.models))

    @property
    def method_label(self) -> str:
        """The method and its parameters in words."""
        return self.method.label(by_tensor=self.varying.names)

    @property
    def coefficient(self) -> tuple[str, str]:
        """The coefficient's symbol (λ or α) and its value or rules; both empty if the method takes none."""
        symbol = {"lambda": "λ", "alpha": "α", None: ""}[self.method.takes]
        return symbol, self.coefficients.label if symbol else ""

    @property
    def nbytes(self) -> int:
        """Bytes of all shards."""
        return sum(shard.nbytes for shard in self.shards)

    @property
    def read_bytes(self) -> int:
        """Input bytes that the merge reads: of a copied tensor only those of one model. Measuring is not counted."""
        return sum(_read(tensor, self.copied_tensor(tensor)) for shard in self.shards for tensor in shard.tensors)

    def copied_tensor(self, tensor: OutputTensor) -> TensorInfo | None:
        """The input tensor that the result is a copy of (converted if the dtypes differ), or None if it is computed."""
        if tensor.source.donor.dtype not in FLOATING:
            return tensor.source.donor
        copied = self.methods[tensor.source.name].copied_model(tensor.coefficient)
        return None if copied is None else tensor.source.models[copied]

    @cached_property
    def digest(self) -> str:
        """Hash of inputs (name, size, modification time), settings and layout. It must be equal to resume a merge."""
        layout = [shard.header.hex() for shard in self.shards]
        return hashlib.sha256(json.dumps([__version__, self.described, layout], sort_keys=True).encode()).hexdigest()

    @cached_property
    def described(self) -> dict[str, Any]:
        """`describe()` as it was when the plan was made."""
        return self.describe()

    def describe(self) -> dict[str, Any]:
        """The settings and the present state of the inputs, for the manifest and the digest."""
        return {
            **self.method.to_json(),
            "coefficients": self.coefficients.to_json(),
            **({"varying": self.varying.to_json()} if self.varying.parameters else {}),
            "donor": self.group.donor_role,
            "dtype": self.dtype,
            **({"allowed": ["non-finite"]} if self.allow_non_finite else {}),
            "shards": [shard.file for shard in self.shards],
            **{role: _identity(model) for role, model in self.group.by_role.items()},
        }

    def check_unchanged(self) -> None:
        """Raise MullError if an input file was written to, or removed, since the plan was made."""
        for role, model in self.group.by_role.items():
            before = self.described[role]["files"]
            for path in model.files:
                try:
                    same = before[path.name] == _stat(path)
                except OSError:
                    same = False
                if not same:
                    what = f"{path} changed while it was read"
                    raise MullError(what, "make sure that nothing writes to it, then run again")

    def config(self) -> dict[str, Any]:
        """The donor's config, changed where the result differs from the donor.

        Its dtype is the result's, since loaders convert weights to the dtype in the config. If the donor's config ties
        the output head, but the donor stores another head, it is untied, so that all loaders use the stored one.
        """
        donor = self.group.donor
        config = untied(donor.config) if donor.has_other_head else dict(donor.config)
        name = next((name for name, kind in DTYPES.items() if kind == self.dtype), None)
        if name is not None:
            config["dtype" if "dtype" in config else "torch_dtype"] = name
        return config

    def index(self) -> dict[str, Any]:
        """The content of model.safetensors.index.json."""
        return {
            "metadata": {"total_size": sum(t.nbytes for shard in self.shards for t in shard.tensors)},
            "weight_map": {t.source.name: shard.file for shard in self.shards for t in shard.tensors},
        }

    def check_companions(self) -> None:
        """Raise MullError for a file of the donor that must not or cannot be copied."""
        check_companions(self.group.donor.folder)

    def check_space(self, out: Path, times: int = 1) -> None:
        """Raise MullError unless the file system of `out` has room for `times` results of this size."""
        parent = out.resolve().parent
        while not parent.exists():
            parent = parent.parent
        companions = sum(path.stat().st_size for path in self.group.donor.companions())
        needed, free = times * (self.nbytes + companions + (1 << 20)), shutil.disk_usage(parent).free
        if needed > free:
            have = f"the result needs {format_bytes(needed)}, {format_bytes(free)} are free"
            raise MullError(
                f"not enough disk space at {parent}: {have}", "free some space or choose another output folder"
            )


def plan_merge(
    group: Group,
    coefficients: Coefficients,
    *,
    method: Method | None = None,
    dtype: str | None = None,
    shard_bytes: int | None = None,
    allow_non_finite: bool = False,
    varying: Varying | None = None,
) -> MergePlan:
    """Plan a merge of a checked pair or group; by interpolation unless `method` is given.

    Tensors are divided into shards as in the donor, or into shards of at most `shard_bytes` each. `allow_non_finite`:
    do not stop the merge where an input or a result is NaN or infinite. `varying`: parameters that differ between
    tensors, in place of the method's own.

    Raises:
        MullError: a coefficient matches nothing or lies beyond the model, `dtype` is unknown, or the method does not
            take these models.
    """
    method = method or Mi()
    method.check_models(len(group.models), has_base=group.base is not None)
    if dtype is not None and dtype not in DTYPES:
        raise MullError(f"unknown dtype {dtype!r}", "known: " + ", ".join(DTYPES))
    target = DTYPES[dtype] if dtype else None
    lams = coefficients.resolve(tensor.name for tensor in group.tensors)
    outputs: list[tuple[AlignedTensor, str]] = []
    for tensor in group.tensors:
        mixed = tensor.donor.dtype in FLOATING
        outputs.append((tensor, target if target and mixed else tensor.donor.dtype))
    shards = []
    groups = _by_size(outputs, shard_bytes) if shard_bytes else _as_donor(outputs)
    for i, members in enumerate(groups):
        file = SINGLE if len(groups) == 1 else f"model-{i + 1:05d}-of-{len(groups):05d}.safetensors"
        # Dtypes with more bytes first, as safetensors itself does: its readers need every tensor aligned.
        members.sort(key=lambda item: -ITEM_BYTES[item[1]])
        header, spans = layout_header([(tensor.name, kind, tensor.donor.shape) for tensor, kind in members])
        tensors = [OutputTensor(tensor, kind, lams[tensor.name], *spans[tensor.name]) for tensor, kind in members]
        shards.append(OutputShard(file, header, tensors))
    plan = MergePlan(group, method, coefficients, target, shards, allow_non_finite, varying or Varying())
    _ = plan.methods  # raises if a tensor's parameters cannot be used
    _ = plan.described  # records the present state of the inputs, so that `check_unchanged` notices later changes
    return plan


def _as_donor(outputs: list[tuple[AlignedTensor, str]]) -> list[list[tuple[AlignedTensor, str]]]:
    groups: dict[Path, list[tuple[AlignedTensor, str]]] = {}
    for tensor, kind in outputs:
        groups.setdefault(tensor.donor.file, []).append((tensor, kind))
    return [groups[file] for file in sorted(groups)]


def _by_size(outputs: list[tuple[AlignedTensor, str]], limit: int) -> list[list[tuple[AlignedTensor, str]]]:
    groups: list[list[tuple[AlignedTensor, str]]] = [[]]
    size = 0
    for tensor, kind in outputs:
        nbytes = tensor.donor.numel * ITEM_BYTES[kind]
        if groups[-1] and size + nbytes > limit:
            groups.append([])
            size = 0
        groups[-1].append((tensor, kind))
        size += nbytes
    return groups


def _read(tensor: OutputTensor, copied: TensorInfo | None) -> int:
    source = tensor.source
    if copied is not None:
        return copied.nbytes
    return sum(info.nbytes for info in source.models) + (source.base.nbytes if source.base else 0)


def _identity(checkpoint: Checkpoint) -> dict[str, Any]:
    files = {path.name: _stat(path) for path in checkpoint.files}
    return {"name": checkpoint.name, "index": (checkpoint.folder / INDEX).is_file(), "files": files}


def _stat(path: Path) -> dict[str, int]:
    stat = path.stat()
    return {"bytes": stat.st_size, "mtime_ns": stat.st_mtime_ns}
