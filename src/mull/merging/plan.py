"""The plan of a merge: which bytes of which inputs make which bytes of the output. Made from headers alone.

Verified before the first byte is written: names, shapes, dtypes, coefficients, disk space. Touches no tensor data.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from mull import __version__
from mull.checkpoints.checkpoint import INDEX, SINGLE, Checkpoint
from mull.checkpoints.headers import FLOATING, ITEM_BYTES, layout_header
from mull.checkpoints.pair import Pair, PairedTensor
from mull.errors import MullError
from mull.merging.coefficients import Coefficients

DTYPES = {"bfloat16": "BF16", "float16": "F16", "float32": "F32"}


@dataclass(frozen=True)
class OutputTensor:
    """One tensor of the result."""

    source: PairedTensor
    dtype: str
    lam: float
    start: int
    """Byte offset in its shard."""
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

    pair: Pair
    coefficients: Coefficients
    dtype: str | None
    """safetensors dtype of all floating tensors, or None for the donor's own."""
    shards: list[OutputShard]

    @property
    def nbytes(self) -> int:
        """Bytes of all shards."""
        return sum(shard.nbytes for shard in self.shards)

    @property
    def read_bytes(self) -> int:
        """Bytes read from the inputs; λ = 0 and λ = 1 read one side only."""
        return sum(
            (t.source.instruct.nbytes if t.lam != 1 else 0) + (t.source.thinking.nbytes if t.lam != 0 else 0)
            for shard in self.shards
            for t in shard.tensors
        )

    @cached_property
    def digest(self) -> str:
        """Identifies inputs (by name, size and time of change), settings and layout: a resume needs the same."""
        layout = [shard.header.hex() for shard in self.shards]
        return hashlib.sha256(json.dumps([__version__, self.described, layout], sort_keys=True).encode()).hexdigest()

    @cached_property
    def described(self) -> dict[str, Any]:
        """`describe()` as it was when the plan was made."""
        return self.describe()

    def describe(self) -> dict[str, Any]:
        """The settings and the inputs as they are now, for the manifest and the digest."""
        return {
            "method": "mi",
            "coefficients": self.coefficients.to_json(),
            "donor": self.pair.donor_side,
            "dtype": self.dtype,
            "shards": [shard.file for shard in self.shards],
            "instruct": _identity(self.pair.instruct),
            "thinking": _identity(self.pair.thinking),
        }

    def check_unchanged(self) -> None:
        """Raise MullError if an input file was written to, or removed, since the plan was made."""
        for side in (self.pair.instruct, self.pair.thinking):
            before = self.described["instruct" if side is self.pair.instruct else "thinking"]["files"]
            for path in side.files:
                try:
                    same = before[path.name] == _stat(path)
                except OSError:
                    same = False
                if not same:
                    what = f"{path} changed while it was read"
                    raise MullError(what, "make sure that nothing writes to it, then run again")

    def config(self) -> dict[str, Any]:
        """The donor's config, with the new dtype where one was asked for: loaders cast to what the config says."""
        config = dict(self.pair.donor.config)
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

    def check_space(self, out: Path) -> None:
        """Raise MullError unless the file system of `out` has room for the result."""
        parent = out.resolve().parent
        while not parent.exists():
            parent = parent.parent
        companions = sum(path.stat().st_size for path in self.pair.donor.companions())
        needed, free = self.nbytes + companions + (1 << 20), shutil.disk_usage(parent).free
        if needed > free:
            have = f"the result needs {in_words(needed)}, {in_words(free)} are free"
            raise MullError(
                f"not enough disk space at {parent}: {have}", "free some space or choose another output folder"
            )


def plan_merge(
    pair: Pair, coefficients: Coefficients, *, dtype: str | None = None, shard_bytes: int | None = None
) -> MergePlan:
    """Plan a merge of a checked pair; shards as the donor's, or of at most `shard_bytes` each.

    Raises:
        MullError: a coefficient matches nothing or lies beyond the model, or `dtype` is unknown.
    """
    if dtype is not None and dtype not in DTYPES:
        raise MullError(f"unknown dtype {dtype!r}", "known: " + ", ".join(DTYPES))
    target = DTYPES[dtype] if dtype else None
    lams = coefficients.resolve(tensor.name for tensor in pair.tensors)
    outputs: list[tuple[PairedTensor, str]] = []
    for tensor in pair.tensors:
        mixed = tensor.donor.dtype in FLOATING
        outputs.append((tensor, target if target and mixed else tensor.donor.dtype))
    shards = []
    groups = _by_size(outputs, shard_bytes) if shard_bytes else _as_donor(outputs)
    for i, group in enumerate(groups):
        file = SINGLE if len(groups) == 1 else f"model-{i + 1:05d}-of-{len(groups):05d}.safetensors"
        # Wide items first, as safetensors itself does: its readers need every tensor aligned.
        group.sort(key=lambda item: -ITEM_BYTES[item[1]])
        header, spans = layout_header([(tensor.name, kind, tensor.donor.shape) for tensor, kind in group])
        tensors = [OutputTensor(tensor, kind, lams[tensor.name], *spans[tensor.name]) for tensor, kind in group]
        shards.append(OutputShard(file, header, tensors))
    plan = MergePlan(pair, coefficients, target, shards)
    _ = plan.described  # the inputs as they are now: what changes from here on is noticed
    return plan


def in_words(nbytes: int) -> str:
    """Bytes for people: 3.44 GB, 12.3 MB."""
    return f"{nbytes / 1e9:.2f} GB" if nbytes >= 1e9 else f"{nbytes / 1e6:.1f} MB"


def _as_donor(outputs: list[tuple[PairedTensor, str]]) -> list[list[tuple[PairedTensor, str]]]:
    groups: dict[Path, list[tuple[PairedTensor, str]]] = {}
    for tensor, kind in outputs:
        groups.setdefault(tensor.donor.file, []).append((tensor, kind))
    return [groups[file] for file in sorted(groups)]


def _by_size(outputs: list[tuple[PairedTensor, str]], limit: int) -> list[list[tuple[PairedTensor, str]]]:
    groups: list[list[tuple[PairedTensor, str]]] = [[]]
    size = 0
    for tensor, kind in outputs:
        nbytes = tensor.donor.numel * ITEM_BYTES[kind]
        if groups[-1] and size + nbytes > limit:
            groups.append([])
            size = 0
        groups[-1].append((tensor, kind))
        size += nbytes
    return groups


def _identity(checkpoint: Checkpoint) -> dict[str, Any]:
    files = {path.name: _stat(path) for path in checkpoint.files}
    return {"name": checkpoint.name, "index": (checkpoint.folder / INDEX).is_file(), "files": files}


def _stat(path: Path) -> dict[str, int]:
    stat = path.stat()
    return {"bytes": stat.st_size, "mtime_ns": stat.st_mtime_ns}
