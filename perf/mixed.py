"""What a λ per row costs: a decode step with 8 λ in one batch beside one plain model, switching, and grouping by λ.

    python perf/mixed.py [--batches 1 8 64] [--rounds 5] [--large]

On the built-in pair, with --large instead on a random pair of about 100 M parameters. In one process and one thread,
the contenders take turns of a few steps, so that other load affects all and each finds its weights in the processor's
cache as it left them. Reported is the least time of a decode step over
the rounds as a ratio to the plain model's, and the number of forward passes of a step, which is counted:

- rows: one forward pass in which every row has its λ;
- groups: one forward pass of a plain model for each of the 8 λ, over the rows that have it (8 copies in memory);
- switch: the same with one live model, whose weights are set before each group.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM, Qwen3Config

from mull.engines.base import Request, Sampling
from mull.engines.local.decoding.loop import RowLoop
from mull.engines.local.decoding.rows import Lookahead
from mull.engines.local.engine import LocalEngine
from mull.merging.coefficients import Coefficients
from mull.tiny import checkpoint_folder

LAMS = (0.0, 0.3, 0.45, 0.5, 0.55, 0.7, 0.85, 1.0)
TURN = 8
"""Steps of one contender before it is the next one's turn."""
PROMPT = 40


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--large", action="store_true", help="a random pair of about 100 M parameters")
    arguments = parser.parse_args()
    if not arguments.large:
        ends = checkpoint_folder("instruct"), checkpoint_folder("thinking")
        measure("built-in pair", *ends, arguments, steps=3 * TURN, turn=TURN)
        return
    with tempfile.TemporaryDirectory() as folder:
        measure("random pair", *random_pair(Path(folder)), arguments, steps=2, turn=1)


def random_pair(folder: Path) -> tuple[Path, Path]:
    """Two random Qwen3 models of about 100 M parameters, float32, with the built-in pair's tokenizer."""
    config = Qwen3Config(
        vocab_size=8192, hidden_size=768, intermediate_size=2304, num_hidden_layers=12, num_attention_heads=12,
        num_key_value_heads=4, head_dim=64, max_position_embeddings=2048, tie_word_embeddings=False,
        eos_token_id=1, pad_token_id=0, bos_token_id=None,
    )  # fmt: skip
    for seed, side in enumerate(("instruct", "thinking")):
        torch.manual_seed(seed)
        AutoModelForCausalLM.from_config(config).save_pretrained(folder / side)
        for file in checkpoint_folder("thinking").glob("tokenizer*"):
            (folder / side / file.name).write_bytes(file.read_bytes())
    return folder / "instruct", folder / "thinking"


class Counted:
    """A model that counts its forward passes."""

    def __init__(self, model: torch.nn.Module) -> None:
        self.model, self.passes = model, 0

    def __call__(self, **inputs: object) -> object:
        self.passes += 1
        return self.model(**inputs)


class Contender:
    """Rows divided among loops; `before` runs before the step of each."""

    def __init__(
        self, engine: LocalEngine, groups: list[list[float | None]], steps: int, set_before_step: bool = False
    ) -> None:
        self.engine, self.set_before_step = engine, set_before_step
        self.model = Counted(engine.model)
        self.groups = [group for group in groups if group]
        self.loops = []
        for group in self.groups:
            loop = engine.row_loop(free=4 << 30)
            loop._batch._model = self.model
            sampling = Sampling(temperature=0, max_tokens=4 * steps)
            generator = np.random.default_rng(0)
            requests = [
                Request(
                    id=str(i),
                    prompt_ids=tuple(generator.integers(5, 300, PROMPT).tolist()),
                    seed=i,
                    sampling=sampling,
                    lam=lam,
                )
                for i, lam in enumerate(group)
            ]
            loop._batch.size = len(requests)
            loop._stop_ids = np.array([], np.int64)
            loop._admission.admit(Lookahead(requests))
            self.loops.append(loop)
        self.model.passes = 0

    def step(self) -> float:
        """Seconds of one decode step of all rows."""
        started = time.thread_time()
        for loop, group in zip(self.loops, self.groups, strict=True):
            if self.set_before_step:
                self.engine.set_weights(Coefficients.scalar(self.lam_of(group)))
            advance(loop)
        return time.thread_time() - started

    def lam_of(self, group: list[float | None]) -> float:
        return self.lams[self.groups.index(group)]

    lams: tuple[float, ...] = LAMS


def advance(loop: RowLoop) -> None:
    slots = loop._batch.slots
    loop._arrange(slots.count)
    loop._admission.make_room(Lookahead(()), 0, slots.longest, slots.need)
    loop._step()


def measure(name: str, instruct: Path, thinking: Path, arguments: argparse.Namespace, *, steps: int, turn: int) -> None:
    options = {"processes": 1, "threads": 1}
    plain = LocalEngine(instruct, thinking, **options)
    rows = LocalEngine(instruct, thinking, by_row=True, **options)
    print(f"{name}, {sum(p.numel() for p in plain.model.parameters()) / 1e6:.1f} M parameters, 1 thread")
    for batch in arguments.batches:
        lams = [LAMS[i % len(LAMS)] for i in range(batch)]
        shares = [[None] * lams.count(lam) for lam in LAMS]
        least: dict[str, float] = {}
        passes: dict[str, float] = {}
        for _ in range(arguments.rounds):
            contenders = {
                "plain": Contender(plain, [[None] * batch], steps),
                "rows": Contender(rows, [list(lams)], steps),
                "groups": Contender(plain, shares, steps),
                "switch": Contender(plain, shares, steps, set_before_step=True),
            }
            for _ in range(steps // turn):
                for key, contender in contenders.items():
                    took = min(contender.step() for _ in range(turn))
                    least[key] = min(least.get(key, 1e9), took)
            passes = {key: contender.model.passes / steps for key, contender in contenders.items()}
        shown = "; ".join(
            f"{key} {least[key] / least['plain']:.2f}x ({passes[key]:g} passes)" for key in least if key != "plain"
        )
        print(f"  batch {batch:3}: plain {1e3 * least['plain']:.2f} ms; {shown}", flush=True)


if __name__ == "__main__":
    main()
