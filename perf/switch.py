"""Time to switch λ in memory, compared with only moving the same bytes.

    python perf/switch.py                # a random Qwen3-0.6B-shaped pair
    python perf/switch.py --scale 0.3

The ways take turns in one process on all cores; the best of the rounds counts:

switch   engines.weights.InterpolatedModel.set: reads both ends in bfloat16, writes the live weights
lerp     torch.lerp on the same tensors in bfloat16, with torch's own threads: one pass, not exact, into bfloat16
move     reads and writes as many bytes on all cores: copies one end, and reads the other
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from mull.engines.weights.interpolated import InterpolatedModel
from mull.merging.coefficients import Coefficients

PIECE = 1 << 22


def write_side(folder: Path, scale: float, seed: int) -> None:
    torch.manual_seed(seed)
    config = Qwen3Config(
        vocab_size=round(151_936 * scale), hidden_size=1024, intermediate_size=3072, num_attention_heads=16,
        num_key_value_heads=8, head_dim=128, num_hidden_layers=max(1, round(28 * scale)), tie_word_embeddings=True,
    )  # fmt: skip
    Qwen3ForCausalLM(config).bfloat16().save_pretrained(folder)


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def measure(model: InterpolatedModel, rounds: int) -> dict[str, float]:
    outs = [torch.empty_like(parameter.instruct) for parameter in model.parameters]
    spare = [torch.empty_like(parameter.live) for parameter in model.parameters]
    pool = ThreadPoolExecutor(os.cpu_count())
    lams = iter([0.3, 0.8, 0.45, 0.62, 0.1, 0.9] * rounds)

    def lerp() -> None:
        for parameter, out in zip(model.parameters, outs, strict=True):
            torch.lerp(parameter.instruct, parameter.thinking, 0.3, out=out)

    def move_piece(piece: tuple[torch.Tensor, torch.Tensor, torch.Tensor]) -> None:
        live, source, other = piece
        live.copy_(source)  # reads one end, writes the live weights
        other.view(torch.int16).max()  # reads the other end

    pieces = [
        tuple(tensor.view(-1)[first : first + PIECE] for tensor in (live, parameter.instruct, parameter.thinking))
        for parameter, live in zip(model.parameters, spare, strict=True)
        for first in range(0, parameter.live.numel(), PIECE)
    ]

    def move() -> None:
        list(pool.map(move_piece, pieces))  # type: ignore[arg-type]

    ways = {"switch": lambda: model.set(Coefficients.scalar(next(lams))), "lerp": lerp, "move": move}
    best = dict.fromkeys(ways, float("inf"))
    for _ in range(rounds):
        for name, work in ways.items():
            best[name] = min(best[name], seconds(work))
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=0.5, help="share of the layers and of the vocabulary")
    parser.add_argument("--rounds", type=int, default=6)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mull-perf-") as temporary:
        sides = [Path(temporary) / name for name in ("instruct", "thinking")]
        for seed, side in enumerate(sides):
            write_side(side, arguments.scale, seed)
        for dtype in (torch.float32, torch.bfloat16):
            device = torch.device("cpu")
            model = InterpolatedModel(*sides, donor="thinking", device=device, dtype=dtype, trust_remote_code=False)
            elements = sum(parameter.live.numel() for parameter in model.parameters)
            best = measure(model, arguments.rounds)
            print(f"{elements / 1e6:.0f} M parameters, live weights in {str(dtype).removeprefix('torch.')}")
            for name, taken in best.items():
                size = 6 if name == "lerp" else 4 + dtype.itemsize
                print(
                    f"  {name:7}{taken:8.3f} s {elements / taken / 1e9:6.2f} G elements/s "
                    f"{elements * size / taken / 1e9:6.1f} GB/s {taken / best['move']:6.2f} × move"
                )


if __name__ == "__main__":
    main()
