"""CPU time of checking and planning for checkpoints of many small tensors, as mixtures of experts have.

    python perf/tensors.py                 # 9,000, 18,000 and 36,000 tensors (Qwen3-235B-A22B has 36,000)
    python perf/tensors.py --tensors 2000

Each step runs in a new process; user and system time include the imports, which `mull --version` shows:

check    `mull inspect --no-sigma`: headers, configs, names, shapes
inspect  `mull inspect`: also reads all tensors; torch is imported
plan     `mull merge --dry-run`
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from mull.checkpoints.headers import layout_header

SHARDS = 7


def write_side(folder: Path, count: int, fill: bytes) -> None:
    """Tensors of 1 to 7 elements, named as experts, in `SHARDS` files."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "qwen3_moe", "hidden_size": 8}))
    names = [f"model.layers.{i // 400}.mlp.experts.{i % 400}.up_proj.weight" for i in range(count)]
    weight_map = {}
    for shard in range(SHARDS):
        file = f"model-{shard + 1:05d}-of-{SHARDS:05d}.safetensors"
        own = [(name, "BF16", (i % 7 + 1,)) for i, name in enumerate(names) if i % SHARDS == shard]
        header, _ = layout_header(own)
        (folder / file).write_bytes(header + fill * sum(shape[0] for _, _, shape in own))
        weight_map |= {name: file for name, _, _ in own}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))


def cpu_seconds(*arguments: str) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "mull", *arguments], check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tensors", type=int, nargs="*", default=[9_000, 18_000, 36_000])
    parser.add_argument("--rounds", type=int, default=3, help="the least of so many counts")
    given = parser.parse_args()
    print(f"{'tensors':>8}  " + "  ".join(f"{step:>9}" for step in ("--version", "check", "inspect", "plan")))
    for count in given.tensors:
        with tempfile.TemporaryDirectory() as place:
            sides = [str(Path(place, name)) for name in ("instruct", "thinking")]
            for side, fill in zip(sides, (b"\x80\x3f", b"\x00\x40"), strict=True):
                write_side(Path(side), count, fill)
            merge = ("--instruct", sides[0], "--thinking", sides[1], "--lambda", "0.5", "-o", str(Path(place, "out")))
            steps = (
                ("--version",),
                ("inspect", *sides, "--no-sigma"),
                ("inspect", *sides),
                ("merge", *merge, "--dry-run"),
            )
            seconds = [min(cpu_seconds(*step) for _ in range(given.rounds)) for step in steps]
        print(f"{count:>8,}  " + "  ".join(f"{value:>7.2f} s" for value in seconds), flush=True)


if __name__ == "__main__":
    main()
