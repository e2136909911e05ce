"""What a streaming merge costs beside the bare reading and writing of its bytes, and beside whole shards in memory.

    python perf/merge.py              # a random Qwen3-1.7B-shaped pair, 2 × 3.4 GB, in a temporary folder
    python perf/merge.py --scale 0.1  # a tenth of it

Three ways to make one checkpoint of two, each in a fresh process, in alternating order:

floor   read both inputs through reused buffers, write as many bytes to one preallocated file, flush it to disk
mull    plan and merge with mull at λ = 0.8: arithmetic, self-check and manifest included
shards  the usual script: safetensors' load_file of both sides, torch.lerp tensor by tensor, save_file shard by shard

CPU and wall seconds begin after the imports; peak memory is the process's highest resident set, imports included, with
what the imports alone hold beside it. Mapped input pages count as resident, although the system can take them back.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

LAM = 0.8
PIECE = 2 << 20  # bytes
Shapes = list[tuple[str, str, tuple[int, ...]]]


def shapes(scale: float) -> Shapes:
    """Qwen3-1.7B's tensors; `scale` cuts layers and vocabulary."""
    width, inner, head = 2048, 6144, 128
    tensors: Shapes = [("model.embed_tokens.weight", "BF16", (max(64, round(151_936 * scale)), width))]
    for layer in range(max(1, round(28 * scale))):
        parts: dict[str, tuple[int, ...]] = {
            "input_layernorm": (width,), "mlp.down_proj": (width, inner), "mlp.gate_proj": (inner, width),
            "mlp.up_proj": (inner, width), "post_attention_layernorm": (width,), "self_attn.k_norm": (head,),
            "self_attn.k_proj": (1024, width), "self_attn.o_proj": (width, width), "self_attn.q_norm": (head,),
            "self_attn.q_proj": (width, width), "self_attn.v_proj": (1024, width),
        }  # fmt: skip
        tensors += [(f"model.layers.{layer}.{part}.weight", "BF16", shape) for part, shape in parts.items()]
    return [*tensors, ("model.norm.weight", "BF16", (width,))]


def write_side(folder: Path, tensors: Shapes, shards: int, seed: int) -> None:
    """A checkpoint of random weights in shards of about equal bytes, written piece by piece."""
    import numpy as np

    from mull.checkpoints.headers import layout_header

    folder.mkdir()
    config = {
        "model_type": "qwen3",
        "architectures": ["Qwen3ForCausalLM"],
        "tie_word_embeddings": True,
        "rope_theta": 1e6,
    }
    (folder / "config.json").write_text(json.dumps(config))
    generator = np.random.default_rng(seed)
    normal = (generator.standard_normal(4 << 20, dtype=np.float32) * 0.02).view(np.uint32)
    pool = (normal >> 16).astype(np.uint16).tobytes()
    sizes = [2 * int(np.prod(shape)) for _, _, shape in tensors]
    groups: list[Shapes] = [[] for _ in range(shards)]
    done = 0
    for tensor, size in zip(tensors, sizes, strict=True):
        groups[min(shards - 1, done * shards // sum(sizes))].append(tensor)
        done += size
    weight_map = {}
    for i, group in enumerate(groups):
        name = f"model-{i + 1:05d}-of-{shards:05d}.safetensors"
        head, spans = layout_header(group)
        left = sum(nbytes for _, nbytes in spans.values())
        with (folder / name).open("wb") as file:
            file.write(head)
            while left:
                start = 2 * int(generator.integers(0, len(pool) // 4))
                left -= file.write(pool[start : start + min(left, PIECE)])
        weight_map |= {tensor[0]: name for tensor in group}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))


def floor(instruct: Path, thinking: Path, out: Path, threads: int) -> Callable[[], None]:
    def run() -> None:
        out.mkdir()
        size = sum(path.stat().st_size for path in thinking.glob("*.safetensors"))
        sides = [
            [os.open(path, os.O_RDONLY) for path in sorted(side.glob("*.safetensors"))] for side in (instruct, thinking)
        ]
        places = []
        for files in sides:
            spots = [(file, first) for file in files for first in range(0, os.fstat(file).st_size, PIECE)]
            places.append(spots)
        target = os.open(out / "floor.bin", os.O_CREAT | os.O_RDWR, 0o644)
        os.posix_fallocate(target, 0, size)
        offsets = range(0, size, PIECE)
        jobs = max(len(offsets), *(len(spots) for spots in places))

        def work(mine: range) -> None:
            buffers = [bytearray(PIECE), bytearray(PIECE)]
            for i in mine:
                for spots, buffer in zip(places, buffers, strict=True):
                    if i < len(spots):
                        os.preadv(spots[i][0], [buffer], spots[i][1])
                if i < len(offsets):
                    os.pwrite(target, memoryview(buffers[1])[: size - offsets[i]], offsets[i])

        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(work, (range(i, jobs, threads) for i in range(threads))))
        os.fdatasync(target)

    return run


def mull(instruct: Path, thinking: Path, out: Path, threads: int) -> Callable[[], None]:
    from mull.checkpoints.pair import Pair
    from mull.merging.coefficients import Coefficients
    from mull.merging.plan import plan_merge
    from mull.merging.stream import merge

    def run() -> None:
        pair = Pair.open(str(instruct), str(thinking))
        pair.check()
        merge(plan_merge(pair, Coefficients.scalar(LAM)), out, threads=threads)

    return run


def shards(instruct: Path, thinking: Path, out: Path, threads: int) -> Callable[[], None]:
    import torch
    from safetensors.torch import load_file, save_file

    torch.set_num_threads(threads)

    def run() -> None:
        out.mkdir()
        left = {name: t for path in sorted(instruct.glob("*.safetensors")) for name, t in load_file(path).items()}
        for path in sorted(thinking.glob("*.safetensors")):
            right = load_file(path)
            save_file({name: torch.lerp(left[name], t, LAM) for name, t in right.items()}, out / path.name)
            with (out / path.name).open("rb") as file:
                os.fdatasync(file.fileno())

    return run


WAYS = {"floor": floor, "mull": mull, "shards": shards}


def resident(field: str) -> float:
    """MB of a memory field of this process, e.g. VmHWM."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field + ":"))


def child(arguments: argparse.Namespace) -> None:
    folder = arguments.folder
    run = WAYS[arguments.way](folder / "instruct", folder / "thinking", folder / "out", arguments.threads)
    imports = resident("VmHWM")
    before, start = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    run()
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(json.dumps({"cpu": cpu, "wall": wall, "peak": resident("VmHWM"), "imports": imports}))


def measure(way: str, folder: Path, threads: int) -> dict[str, float]:
    command = [sys.executable, __file__, "--way", way, "--folder", str(folder), "--threads", str(threads)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    shutil.rmtree(folder / "out")
    return json.loads(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=1.0, help="share of the layers and of the vocabulary")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each way")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--folder", type=Path, help="where to put the pair (default: a temporary folder)")
    parser.add_argument("--ways", default=",".join(WAYS))
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.way:
        child(arguments)
        return
    with tempfile.TemporaryDirectory(dir=arguments.folder, prefix="mull-perf-") as temporary:
        folder = Path(temporary)
        tensors = shapes(arguments.scale)
        for seed, (name, count) in enumerate((("instruct", 2), ("thinking", 3))):
            write_side(folder / name, tensors, count, seed)
        os.sync()
        size = sum(path.stat().st_size for path in (folder / "thinking").glob("*.safetensors"))
        print(f"{len(tensors)} tensors, {size / 1e9:.2f} GB a side, {arguments.threads} threads")
        ways = arguments.ways.split(",")
        runs: dict[str, list[dict[str, Any]]] = {way: [] for way in ways}
        for i in range(arguments.rounds):
            for way in ways[i % len(ways) :] + ways[: i % len(ways)]:
                runs[way].append(measure(way, folder, arguments.threads))
    report(runs)


def report(runs: dict[str, list[dict[str, float]]]) -> None:
    """The least CPU seconds (what others do on the machine only adds), medians of the rest, ratios to the first way."""
    columns: dict[str, Callable[[list[float]], float]] = {"cpu": min, "wall": statistics.median}
    rows = {way: {key: pick([run[key] for run in runs[way]]) for key, pick in columns.items()} for way in runs}
    first = next(iter(rows.values()))
    print(f"{'':8}{'CPU s':>8}{'×':>7}{'wall s':>9}{'×':>7}{'peak MB':>10}{'imports MB':>12}   CPU s of each run")
    for way, row in rows.items():
        peak, imports = (max(run[key] for run in runs[way]) for key in ("peak", "imports"))
        times = "".join(
            f"{row[key]:{width}.2f}{row[key] / first[key]:7.2f}" for key, width in (("cpu", 8), ("wall", 9))
        )
        each = ", ".join(f"{run['cpu']:.2f}" for run in runs[way])
        print(f"{way:8}{times}{peak:10.0f}{imports:12.0f}   {each}")


if __name__ == "__main__":
    main()
