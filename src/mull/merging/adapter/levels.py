"""An adapter at several λ, for servers that take adapters but no scale with a request: a folder for each λ.

λ stands in `lora_alpha` alone: what is added to a weight is lora_alpha / r · B·A. So all folders hold the same weights
file, by a hard link where the file system has them. Knows vLLM's command line, and not vLLM.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mull.checkpoints.config import text_config
from mull.errors import MullError
from mull.merging.adapter.lowrank import LowRankPlan
from mull.merging.adapter.writing import CONFIG, WEIGHTS, adapter_config
from mull.merging.coefficients.rules import shortest
from mull.merging.streaming.output import copy_file, write_text

RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""The values of vLLM's --max-lora-rank. There is also 1, which nobody needs."""
SERVE = "serve.sh"
TEMPLATE = "chat_template.jinja"
_HEADS = {
    *("apertus", "cohere", "exaone4", "granite", "granitemoe", "lfm2", "llama", "minicpm", "mistral", "mixtral"),
    *("nemotron", "phimoe", "qwen3", "qwen3_moe"),
}
"""Types of models whose output head may have an adapter in vLLM 0.32: their classes declare `embedding_modules`."""
_GENERATION = "generation_config.json"
_NAME = re.compile(r"[A-Za-z0-9._-]+")


@dataclass(frozen=True)
class Levels:
    """The names `name@λ` by which a server knows an adapter at each λ; `name@0` is the base model."""

    name: str
    lams: tuple[float, ...]
    """Above 0, rising."""

    @classmethod
    def of(cls, name: str, lams: Iterable[float]) -> Levels:
        """Raises `MullError` for a name that does not fit into a command line, and without a λ above 0."""
        if not _NAME.fullmatch(name):
            raise MullError(f"{name!r} is no name of levels", "write letters, digits, '.', '_' and '-'")
        above = tuple(sorted({float(lam) for lam in lams if lam > 0}))
        if not above:
            raise MullError("no level lies above 0", "0 is the base model itself; give others, as in 0.4,0.8,1")
        return cls(name, above)

    @property
    def names(self) -> list[str]:
        """Of the adapters and of their folders."""
        return [f"{self.name}@{shortest(lam)}" for lam in self.lams]

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, "lambdas": list(self.lams)}


def max_lora_rank(rank: int) -> int:
    """vLLM's option for adapters of this rank. Raises `MullError` where it is too high for vLLM."""
    found = next((most for most in RANKS if rank <= most), None)
    if found is None:
        raise MullError(f"rank {rank} is above {RANKS[-1]}, the highest that vLLM takes", "give a smaller --rank")
    return found


def refused_head(plan: LowRankPlan) -> str | None:
    """The type of a model whose output head has factors, which vLLM does not take for that type; None otherwise."""
    kind = str(text_config(plan.pair.instruct.config).get("model_type"))
    return kind if kind not in _HEADS and any(factors.module == "lm_head" for factors in plan.factors) else None


def write_levels(levels: Levels, plan: LowRankPlan, folder: Path) -> None:
    """Write a folder for each level into the `folder` of an adapter, Thinking's template and generation config beside
    them, and a script that starts vLLM on them."""
    for name, lam in zip(levels.names, levels.lams, strict=True):
        (folder / name).mkdir()
        _link(folder / WEIGHTS, folder / name / WEIGHTS)
        write_text(folder / name / CONFIG, json.dumps(adapter_config(plan, scale=lam), indent=2) + "\n")
    thinking = plan.pair.thinking
    if thinking.tokenizer.chat_template is not None:
        write_text(folder / TEMPLATE, thinking.tokenizer.chat_template)
    if (thinking.folder / _GENERATION).is_file():
        copy_file(thinking.folder / _GENERATION, folder / _GENERATION)
    write_text(folder / SERVE, serve_script(levels, plan))


def serve_script(levels: Levels, plan: LowRankPlan) -> str:
    """A shell script beside the folders of the levels: the command line of a vLLM without plugins."""
    thinking = plan.pair.thinking
    config = adapter_config(plan)
    lines = [["vllm", "serve", config["base_model_name_or_path"], "--served-model-name", f"{levels.name}@0"]]
    if config["revision"]:
        lines[0] += ["--revision", config["revision"]]
    # With fewer places than adapters, requests at other λ would wait for each other. One more stays empty: on CPUs vLLM
    # 0.32 gives rows without an adapter, those of λ = 0, the adapter in the last place.
    ranks, places = str(max_lora_rank(plan.rank)), str(len(levels.lams) + 1)
    lines.append(["--enable-lora", "--max-lora-rank", ranks, "--max-loras", places])
    if thinking.tokenizer.chat_template is not None:
        lines.append(["--chat-template", TEMPLATE])
    if (thinking.folder / _GENERATION).is_file():
        lines.append(["--generation-config", "."])
    lines.append(["--lora-modules", *(f"{name}={name}" for name in levels.names)])
    shown = " \\\n    ".join(shlex.join(line) for line in lines)
    return f"""#!/bin/sh
# Instruct as {levels.name}@0, and an adapter for each other λ. Further options may follow: sh {SERVE} --port 8001
cd "$(dirname "$0")" || exit
exec {shown} "$@"
"""


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # some file systems have no hard links
        shutil.copyfile(source, target)
