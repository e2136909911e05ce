"""Train the built-in pair: `python -m training --out DIR [--seed 0] [--family qwen3]`.

Base is trained from scratch. Instruct and Thinking are fine-tuned from it with embeddings, output head and final norm
frozen, so that layer ablations cover all of their difference. The data depend only on the seed; a killed run continues
from its last saved state. The default is one thread, because on two cores two runs with one thread each are faster than
one run after the other with two. The recipe and its results: docs/tiny-pair.md.
"""

from __future__ import annotations

import argparse
import functools
import json
import random
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional as F
from transformers import AutoModelForCausalLM, PreTrainedModel

from training.corpus import KINDS, Recipe, document
from training.export import export
from training.families import FAMILIES
from training.vocabulary import build_tokenizer

IGNORED = -100
"""Target of positions without loss."""
POOL = 1500
"""Number of documents that are generated, sorted by length and split into batches together."""
SAVE_EVERY = 100
"""Steps between two saved states."""


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How one model is trained."""

    steps: int
    """Optimizer steps."""
    tokens: int = 4096
    """Tokens per step, padding included."""
    lr: float = 5e-4
    """Peak learning rate of AdamW (for Base only of embedding and norms; its matrices use Muon with `muon_lr`)."""
    muon_lr: float = 0.0
    """Peak learning rate of Muon for the matrices; 0 = AdamW for all."""
    warmup: int = 20
    """Steps of linear warm-up. The rate decays linearly to 0 in the second half of training."""


SCHEDULES = {
    "base": Schedule(steps=2400, lr=3e-3, muon_lr=0.02, warmup=50),
    "instruct": Schedule(steps=600),
    "thinking": Schedule(steps=600),
}


def train(
    kind: str,
    out: Path,
    recipe: Recipe,
    schedule: Schedule,
    seed: int,
    *,
    family: str = "qwen3",
    compiled: bool = False,
) -> None:
    """Train `kind` and write the checkpoint folder `out/kind`; does nothing if that folder exists.

    Base gets random weights of `family` and a new tokenizer; the fine-tunes take both from `out/base`. `compiled` needs
    a C++ compiler and takes about 0.6 times the time; it rounds differently, so the weights differ in the last digits.
    """
    if (out / kind).exists():
        return
    torch.manual_seed(seed)
    tokenizer = build_tokenizer() if kind == "base" else Tokenizer.from_file(str(out / "base" / "tokenizer.json"))
    model = FAMILIES[family].new_model() if kind == "base" else _load(out / "base")
    forward = torch.compile(model, dynamic=True) if compiled else model
    optimizers = _optimizers(model, kind, schedule)
    peak_rates = [optimizer.param_groups[0]["lr"] for optimizer in optimizers]
    state = out / f"{kind}.state.safetensors"
    step, pool, index = _restore(state, model, optimizers)
    data = batches(tokenizer, kind, recipe, schedule.tokens, seed, pool, index)
    started, first, losses = time.perf_counter(), step, []
    while step < schedule.steps:
        scale = min(1.0, (step + 1) / schedule.warmup, 2 * (1 - step / schedule.steps))
        for optimizer, rate in zip(optimizers, peak_rates, strict=True):
            optimizer.param_groups[0]["lr"] = rate * scale
        inputs_BL, targets_BL, pool, index = next(data)
        with torch.autocast("cpu", torch.bfloat16):
            logits_BLV = forward(input_ids=inputs_BL, use_cache=False).logits
        loss = F.cross_entropy(logits_BLV.float().flatten(0, 1), targets_BL.flatten(), ignore_index=IGNORED)
        loss.backward()
        torch.nn.utils.clip_grad_norm_([p for p in model.parameters() if p.requires_grad], 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        step += 1
        losses.append(loss.item())
        if step % SAVE_EVERY == 0 or step == schedule.steps:
            seconds = time.perf_counter() - started
            left = seconds / (step - first) * (schedule.steps - step)
            mean = sum(losses) / len(losses)
            print(
                f"{kind} step {step}/{schedule.steps}  loss {mean:.4f}  {seconds:.0f} s, {left:.0f} s left", flush=True
            )
            losses.clear()
            _save(state, model, optimizers, step, pool, index)
    record = {
        "kind": kind,
        "seed": seed,
        "schedule": asdict(schedule),
        "recipe": asdict(recipe),
        "family": family,
        "compiled": compiled,
    }
    export(model, tokenizer, kind, out / kind, record)
    state.unlink()


def batches(
    tokenizer: Tokenizer, kind: str, recipe: Recipe, tokens: int, seed: int, pool: int = 0, index: int = 0
) -> Iterator[tuple[Tensor, Tensor, int, int]]:
    """Endless `(inputs [B, L], targets [B, L], pool, index)`, int64; a batch has documents of similar length.

    `tokens`: most tokens per batch, padding included. Pool number p is a pure function of (seed, kind, p), so `(pool,
    index)` of the last batch is enough to continue.
    """

    @functools.lru_cache(maxsize=20_000)
    def encode_short(text: str) -> list[int]:
        return tokenizer.encode(text).ids

    def encode(text: str) -> list[int]:
        return encode_short(text) if len(text) < 16 else tokenizer.encode(text).ids

    while True:
        rng = random.Random(f"{seed}/{kind}/{pool}")
        documents = []
        for _ in range(POOL):
            segments = [(encode(text), has_loss) for text, has_loss in document(rng, kind, recipe)]
            ids = [i for part, _ in segments for i in part]
            loss = [has_loss for part, has_loss in segments for _ in part]
            documents.append((ids, loss))
        documents.sort(key=lambda d: len(d[0]))
        rows: list[list] = [[]]
        for item in documents:
            if rows[-1] and (len(rows[-1]) + 1) * len(item[0]) > tokens:
                rows.append([])
            rows[-1].append(item)
        rng.shuffle(rows)
        for i in range(index, len(rows)):
            length = max(len(ids) for ids, _ in rows[i]) - 1
            inputs = torch.zeros(len(rows[i]), length, dtype=torch.long)
            targets = torch.full((len(rows[i]), length), IGNORED)
            for row, (ids, loss) in enumerate(rows[i]):
                inputs[row, : len(ids) - 1] = torch.tensor(ids[:-1])
                wanted = [token if keep else IGNORED for token, keep in zip(ids[1:], loss[1:], strict=True)]
                targets[row, : len(ids) - 1] = torch.tensor(wanted)
            yield inputs, targets, pool, i + 1
        pool, index = pool + 1, 0


def _load(folder: Path) -> PreTrainedModel:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    return model.train()


def _optimizers(model: PreTrainedModel, kind: str, schedule: Schedule) -> list[torch.optim.Optimizer]:
    head = model.get_output_embeddings()
    assert head is not None
    ends = [model.get_input_embeddings().weight, head.weight]
    if kind == "base":
        parameters = list(model.parameters())
        matrices = [p for p in parameters if p.ndim == 2 and not any(p is end for end in ends)]
        others = [p for p in parameters if not any(p is matrix for matrix in matrices)]
        muon = torch.optim.Muon(matrices, lr=schedule.muon_lr, momentum=0.95, weight_decay=0.01)
        return [muon, torch.optim.AdamW(others, lr=schedule.lr, betas=(0.9, 0.95), weight_decay=0.0)]
    for frozen in (*ends, model.model.norm.weight):
        frozen.requires_grad_(False)
    moving = [p for p in model.parameters() if p.requires_grad]
    return [torch.optim.AdamW(moving, lr=schedule.lr, betas=(0.9, 0.98), weight_decay=0.0)]


def _save(path: Path, model: PreTrainedModel, optimizers: list, step: int, pool: int, index: int) -> None:
    tensors = {f"model/{name}": p.detach().clone() for name, p in model.named_parameters()}
    for o, optimizer in enumerate(optimizers):
        for p, slots in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer/{o}/{p}/{slot}": torch.as_tensor(value).clone() for slot, value in slots.items()}
    partial = path.with_suffix(".partial")
    save_file(tensors, partial, metadata={"step": str(step), "pool": str(pool), "index": str(index)})
    partial.replace(path)


def _restore(path: Path, model: PreTrainedModel, optimizers: list) -> tuple[int, int, int]:
    """Load the saved state, if there is one; returns (step, pool, index) to continue from."""
    if not path.exists():
        return 0, 0, 0
    tensors = load_file(path)
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(tensors[f"model/{name}"])
    for o, optimizer in enumerate(optimizers):
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            part, *rest = key.split("/")
            if part == "optimizer" and rest[0] == str(o):
                state.setdefault(int(rest[1]), {})[rest[2]] = value
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    with safe_open(path, "pt") as file:
        saved = file.metadata()
    return int(saved["step"]), int(saved["pool"]), int(saved["index"])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m training", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for base/, instruct/ and thinking/")
    parser.add_argument("--seed", type=int, default=0, help="seed of the initial weights and of the data order")
    parser.add_argument("--family", choices=FAMILIES, default="qwen3", help="architecture")
    parser.add_argument("--compile", action="store_true", help="use torch.compile: faster, needs a C++ compiler")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS), help="which of them to train")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--steps", type=int, nargs="+", help="optimizer steps of each kind, instead of the recipe's")
    parser.add_argument("--lr", type=float, help="peak rate of the fine-tunes, instead of the recipe's")
    for field in fields(Recipe):
        default = getattr(Recipe, field.name)
        many = isinstance(default, tuple)
        kind = type(default[0] if many else default)
        parser.add_argument(
            f"--{field.name.replace('_', '-')}", type=kind, nargs="+" if many else None, default=default
        )
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    given = {field.name: getattr(args, field.name) for field in fields(Recipe)}
    values: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in given.items()}
    recipe = Recipe(**values)
    args.out.mkdir(parents=True, exist_ok=True)
    for i, kind in enumerate(args.kinds):
        schedule = asdict(SCHEDULES[kind])
        if args.steps:
            schedule["steps"] = args.steps[i]
        if args.lr and kind != "base":
            schedule["lr"] = args.lr
        train(
            kind,
            args.out,
            recipe,
            Schedule(**schedule),
            args.seed,
            family=args.family,
            compiled=args.compile,
        )
    print(json.dumps({"out": str(args.out), "kinds": args.kinds}))
