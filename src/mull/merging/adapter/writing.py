"""Writes the low-rank difference of a pair as a LoRA adapter in PEFT's layout, and records how much it loses.

One tensor of the pair is in memory at a time, and its factors are written as soon as they are computed. The output
folder only appears when it is complete; a run that was stopped leaves nothing, and the next one starts over.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mull import __version__
from mull.checkpoints.blocks import Buffer, Files
from mull.checkpoints.checkpoint import Checkpoint
from mull.checkpoints.fingerprint import fingerprint
from mull.checkpoints.headers import ITEM_BYTES, layout_header
from mull.errors import MullError
from mull.folders import locked
from mull.merging.adapter.lowrank import (
    PIECE,
    Fidelity,
    Loss,
    LowRankPlan,
    PlannedFactors,
    Unrepresented,
    difference,
    energy,
    factorise,
    residual,
    seed_of,
    squared_norm,
)
from mull.merging.streaming import output
from mull.merging.streaming.plan import DTYPES

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
SMALL_MATRIX = 1 << 18
"""Elements up to which an SVD is faster on one thread than on several."""
PREFIX = "base_model.model."
"""PEFT's prefix to the parameter names of the base model."""

Describe = Callable[[Path, Fidelity, dict[str, Any]], dict[str, str]]
"""(folder with the adapter, its fidelity, the manifest, which may be extended) → further files as name → text."""


def extract(
    plan: LowRankPlan,
    out: Path,
    *,
    save_rest: bool = False,
    overwrite: bool = False,
    describe: Describe | None = None,
    progress: Callable[[int], object] | None = None,
) -> Fidelity:
    """Write the adapter of `plan` to the folder `out`; returns how much of the difference it holds.

    `save_rest` also stores Thinking's norms and untied embeddings whole (PEFT's modules_to_save). `progress` is
    called with the input bytes done since the last call. `describe` is called before the folder is renamed to `out`.

    Raises:
        MullError: `out` exists (without `overwrite`), the disk is full, an input cannot be read or holds NaN, or
            another run is writing to `out`.
    """
    partial = output.partial_folder(out)
    inputs = (plan.pair.instruct, plan.pair.thinking)
    intra_op = torch.get_num_threads()
    if max(factors.source.instruct.numel for factors in plan.factors) <= SMALL_MATRIX:
        torch.set_num_threads(1)
    try:
        output.check_target(out, inputs, overwrite=overwrite, config=CONFIG)
        with locked(partial, output.busy_error(out)):
            output.check_target(out, inputs, overwrite=overwrite, config=CONFIG)
            output.finished_shards(partial, "", {})  # removes what a killed run left
            try:
                fidelity = _fill(plan, partial, saved_whole(plan) if save_rest else [], describe, progress)
                output.swap_in(partial, out.resolve())
            except BaseException:
                shutil.rmtree(partial, ignore_errors=True)
                raise
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise MullError(f"the disk of {out} is full", "free some space and run it again") from None
        what = f"cannot write {out}: {error.strerror}"
        raise MullError(what, "check the folder's permissions and the disk") from None
    finally:
        torch.set_num_threads(intra_op)
    return fidelity


def saved_whole(plan: LowRankPlan) -> list[Unrepresented]:
    """The tensors without factors that PEFT's modules_to_save can store whole: norms and untied embeddings.

    Left out are a tied embedding (PEFT would need a copy of it as output head), biases of layers with factors (a module
    cannot be in both lists), and tensors that were not selected.
    """
    taken = {factors.module for factors in plan.factors}
    if plan.pair.instruct.tied and plan.pair.instruct.embedding:
        taken.add(plan.pair.instruct.embedding.name.removesuffix(".weight"))
    return [
        rest
        for rest in plan.rest
        if rest.reason in ("norm", "embedding", "bias")
        and _module(rest) not in taken
        and rest.source.instruct.shape == rest.source.thinking.shape
    ]


def adapter_config(plan: LowRankPlan, whole: Iterable[Unrepresented] = (), *, scale: float = 1.0) -> dict[str, Any]:
    """PEFT's adapter_config.json. lora_alpha = `scale` · r at every rank, so that 1 stands for Thinking."""
    base, _, revision = plan.pair.instruct.name.partition("@")
    on_hub = plan.pair.instruct.name != str(plan.pair.instruct.folder)
    patterns = {factors.module: factors.rank for factors in plan.factors if factors.rank != plan.rank}
    saved = list(dict.fromkeys(map(_module, whole)))
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base if on_hub else str(plan.pair.instruct.folder.resolve()),
        "revision": revision or None if on_hub else None,
        "r": plan.rank,
        "lora_alpha": _alpha(scale, plan.rank),
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": _targets(plan),
        "rank_pattern": patterns,
        "alpha_pattern": {module: _alpha(scale, rank) for module, rank in patterns.items()},
        "modules_to_save": saved or None,
        "fan_in_fan_out": False,
        "use_rslora": False,
        "use_dora": False,
        "inference_mode": True,
    }


def _alpha(scale: float, rank: int) -> float:
    return rank if scale == 1 else round(scale * rank, 12)  # PEFT's own are whole numbers


def manifest(plan: LowRankPlan, fidelity: Fidelity) -> dict[str, Any]:
    """The content of mull.json: sources, settings, and the loss by tensor, by cell and in total. Shares are 0 to 1."""
    represented, total = fidelity.represented, fidelity.total
    return {
        "mull": __version__,
        "torch": torch.__version__,
        "method": "low-rank delta",
        "rank": plan.rank,
        "dtype": plan.dtype,
        "selection": plan.selection.to_json(),
        **{
            key: {"name": side.name, "fingerprint": fingerprint(side)}
            for key, side in (("instruct", plan.pair.instruct), ("thinking", plan.pair.thinking))
        },
        "findings": [f"{f.code}: {f.what}" for f in plan.pair.findings() if f.severity != "same"],
        "delta_norm": total**0.5,
        "represented": {"share": represented.delta / total if total else None, **_figures(represented)},
        "whole_model_relative_error": fidelity.whole_model_error if total else None,
        "cells": [
            {"layer": layer, "module": kind, **_figures(loss)} for (layer, kind), loss in fidelity.cells().items()
        ],
        "tensors": [
            {"name": f.source.name, "rank": f.rank, "svd": f.method, **_figures(fidelity.factors[f.source.name])}
            for f in plan.factors
        ],
        "without_factors": [
            {"name": name, "reason": reason, "share": delta / total if total else None, "stored_whole": name in whole}
            for whole in (fidelity.stored_whole,)
            for name, (reason, delta) in fidelity.rest.items()
        ],
    }


def _figures(loss: Loss) -> dict[str, float | None]:
    if not loss.delta:
        return {"kept_share": None, "relative_error": None}
    return {"kept_share": loss.kept_share, "relative_error": loss.relative_error}


def _fill(
    plan: LowRankPlan,
    partial: Path,
    whole: list[Unrepresented],
    describe: Describe | None,
    progress: Callable[[int], object] | None,
) -> Fidelity:
    output.write_text(partial / CONFIG, json.dumps(adapter_config(plan, whole), indent=2) + "\n")
    fidelity = _write_weights(plan, partial / WEIGHTS, whole, progress)
    written = manifest(plan, fidelity)
    for name, text in (describe(partial, fidelity, written) if describe else {}).items():
        output.write_text(partial / name, text)
    output.write_text(partial / output.MANIFEST, json.dumps(written, indent=2) + "\n")
    return fidelity


def _write_weights(
    plan: LowRankPlan, path: Path, whole: list[Unrepresented], progress: Callable[[int], object] | None
) -> Fidelity:
    """Write the header, which follows from the plan; then each tensor at its offset as soon as it is computed."""
    header, spans = layout_header(_layout(plan, whole))
    buffers = (Buffer(PIECE * 8), Buffer(PIECE * 8))
    losses: dict[str, Loss] = {}
    rest: dict[str, tuple[str, float]] = {}
    with Files() as files, path.open("wb") as target:
        target.write(header)

        def put(name: str, tensor: Tensor) -> None:
            target.seek(spans[name][0])
            target.write(tensor.contiguous().view(-1).view(torch.uint8).numpy().data)

        def report(tensor: PlannedFactors | Unrepresented) -> None:
            if progress:
                progress(tensor.source.instruct.nbytes + tensor.source.thinking.nbytes)

        for side in (plan.pair.instruct, plan.pair.thinking):
            _open(files, side)
        for factors in plan.factors:
            a, b, losses[factors.source.name] = _factors(plan, factors, files, buffers)
            put(_key(factors, "A"), a)
            put(_key(factors, "B"), b)
            report(factors)
        for tensor in whole:
            info = tensor.source.thinking
            item = ITEM_BYTES[info.dtype]
            for first in range(0, info.numel, PIECE):
                piece = buffers[0].bytes[: min(PIECE, info.numel - first) * item]
                files.read(info.file, info.start + first * item, piece)
                target.seek(spans[PREFIX + info.name][0] + first * item)
                target.write(piece)
        for tensor in plan.rest:
            name = tensor.source.name
            rest[name] = (tensor.reason, _finite(energy(files, tensor.source, buffers), name))
            report(tensor)
        target.flush()
        os.fsync(target.fileno())
    return Fidelity(losses, rest, frozenset(tensor.source.name for tensor in whole))


def _factors(
    plan: LowRankPlan, factors: PlannedFactors, files: Files, buffers: tuple[Buffer, Buffer]
) -> tuple[Tensor, Tensor, Loss]:
    """A and B in the dtype in which they are stored, and the loss."""
    name = factors.source.name
    delta = difference(files, factors.source, buffers)
    norm = _finite(squared_norm(delta), name)
    a, b, kept = factorise(delta, factors.rank, factors.method, seed_of(name))
    a, b = a.to(plan.torch_dtype), b.to(plan.torch_dtype)
    error = residual(delta, a, b)
    if not error < float("inf"):
        raise MullError(f"the factors of {name} do not fit into {plan.dtype}", "take --dtype bfloat16 or float32")
    return a, b, Loss(norm, kept, error)


def _layout(plan: LowRankPlan, whole: list[Unrepresented]) -> list[tuple[str, str, tuple[int, ...]]]:
    """(name, dtype, shape) of the adapter's tensors; dtypes with more bytes first, to keep all aligned."""
    dtype = DTYPES[plan.dtype]
    layout: list[tuple[str, str, tuple[int, ...]]] = []
    for factors in plan.factors:
        rows, columns = factors.shape
        layout += [
            (_key(factors, "A"), dtype, (factors.rank, columns)),
            (_key(factors, "B"), dtype, (rows, factors.rank)),
        ]
    layout += [(PREFIX + t.source.name, t.source.thinking.dtype, t.source.thinking.shape) for t in whole]
    return sorted(layout, key=lambda item: -ITEM_BYTES[item[1]])


def _targets(plan: LowRankPlan) -> list[str]:
    """The last part of each module's name, as is usual; full names if that would also match modules without factors."""
    taken = {factors.module for factors in plan.factors}
    modules: dict[str, set[str]] = defaultdict(set)
    for name in (tensor.name for tensor in plan.pair.tensors):
        module = name.rpartition(".")[0]
        modules[module.rpartition(".")[2]].add(module)
    short = {module.rpartition(".")[2] for module in taken}
    return sorted(short) if all(modules[last] <= taken for last in short) else sorted(taken)


def _key(factors: PlannedFactors, factor: str) -> str:
    return f"{PREFIX}{factors.module}.lora_{factor}.weight"


def _module(rest: Unrepresented) -> str:
    return rest.source.name.rpartition(".")[0]


def _finite(value: float, name: str) -> float:
    if not value < float("inf"):
        raise MullError(f"{name} holds NaN or infinity", "look at both sides with `mull inspect`")
    return value


def _open(files: Files, side: Checkpoint) -> None:
    for file in side.files:
        files.open(file)
