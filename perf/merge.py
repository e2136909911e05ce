"""Time and memory of a streaming merge, compared with only reading and writing its bytes and with other tools.

    python perf/merge.py                       # a random Qwen3-1.7B-shaped pair, 3 × 3.4 GB, in a temporary folder
    python perf/merge.py --scale 0.1           # a tenth of it
    python perf/merge.py --shape moe           # a small Qwen3-MoE
    python perf/merge.py --methods mi,ties     # fewer methods

Each way makes one checkpoint of two (and a base) in a new process. The ways take turns:

floor            read both inputs into reused buffers, write as many bytes to one preallocated file, flush it to disk
mull:METHOD      plan and merge with mull: measuring, arithmetic, self-check and manifest included
mull-cuda:METHOD the same with --device cuda (with --cuda)
shards           the usual script: safetensors' load_file of both sides, torch.lerp tensor by tensor, save_file by shard
mergekit:METHOD  mergekit 0.1.5, installed into its own environment on the first run (perf/.mergekit)

CPU and wall seconds do not include the imports. On a virtual machine whose hypervisor takes unused memory back, system
time varies a lot; the minimum of many rounds at a small scale (0.25) is then the best measure. Peak memory is the
largest resident set of the process, imports included; the memory after the imports is shown beside it. Mapped input
pages count as resident, although the system can take them back; mull releases them every 32 MB.
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
DENSITY = 0.2
METHODS = ("mi", "slerp", "ties", "dare_ties")
PIECE = 2 << 20  # bytes
PEER = Path(__file__).parent / ".mergekit"
Shapes = list[tuple[str, str, tuple[int, ...]]]


def moe_shapes(scale: float) -> Shapes:
    """A small Qwen3-MoE: 12 layers of 32 experts; `scale` is the share of the layers."""
    width, inner = 1024, 512
    tensors: Shapes = [("model.embed_tokens.weight", "BF16", (32_768, width))]
    for layer in range(max(1, round(12 * scale))):
        parts: dict[str, tuple[int, ...]] = {
            "input_layernorm": (width,), "post_attention_layernorm": (width,), "mlp.gate": (32, width),
            "self_attn.k_norm": (128,), "self_attn.k_proj": (512, width), "self_attn.o_proj": (width, 2048),
            "self_attn.q_norm": (128,), "self_attn.q_proj": (2048, width), "self_attn.v_proj": (512, width),
        }  # fmt: skip
        for expert in range(32):
            parts |= {f"mlp.experts.{expert}.{kind}_proj": (inner, width) for kind in ("gate", "up")}
            parts[f"mlp.experts.{expert}.down_proj"] = (width, inner)
        tensors += [(f"model.layers.{layer}.{part}.weight", "BF16", shape) for part, shape in parts.items()]
    return [*tensors, ("model.norm.weight", "BF16", (width,))]


def dense_shapes(scale: float) -> Shapes:
    """Qwen3-1.7B's tensors; `scale` is the share of layers and vocabulary."""
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


def write_side(folder: Path, tensors: Shapes, shards: int, seed: int, shape: str) -> None:
    """A checkpoint of random weights in shards of about equal bytes, written piece by piece."""
    import numpy as np

    from mull.checkpoints.headers import layout_header

    folder.mkdir()
    layers = 1 + max(int(name.split(".")[2]) for name, _, _ in tensors if name.startswith("model.layers."))
    experts = {"num_experts": 32, "mlp_only_layers": [], "decoder_sparse_step": 1} if shape == "moe" else {}
    config = {
        "model_type": "qwen3_moe" if experts else "qwen3",
        "architectures": ["Qwen3MoeForCausalLM" if experts else "Qwen3ForCausalLM"],
        "tie_word_embeddings": True,
        "rope_theta": 1e6,
        "num_hidden_layers": layers,
        "vocab_size": tensors[0][2][0],
        "hidden_size": tensors[0][2][1],
        **experts,
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


def floor(folder: Path, method: str, threads: int) -> Callable[[], None]:
    instruct, thinking, out = (folder / name for name in ("instruct", "thinking", "out"))

    def run() -> None:
        out.mkdir()
        size = sum(path.stat().st_size for path in thinking.glob("*.safetensors"))
        sides = [
            [os.open(path, os.O_RDONLY) for path in sorted(side.glob("*.safetensors"))] for side in (instruct, thinking)
        ]
        pieces_of_sides = []
        for files in sides:
            pieces = [(file, first) for file in files for first in range(0, os.fstat(file).st_size, PIECE)]
            pieces_of_sides.append(pieces)
        target = os.open(out / "floor.bin", os.O_CREAT | os.O_RDWR, 0o644)
        os.posix_fallocate(target, 0, size)
        offsets = range(0, size, PIECE)
        jobs = max(len(offsets), *(len(pieces) for pieces in pieces_of_sides))

        def work(indices: range) -> None:
            buffers = [bytearray(PIECE), bytearray(PIECE)]
            for i in indices:
                for pieces, buffer in zip(pieces_of_sides, buffers, strict=True):
                    if i < len(pieces):
                        os.preadv(pieces[i][0], [buffer], pieces[i][1])
                if i < len(offsets):
                    os.pwrite(target, memoryview(buffers[1])[: size - offsets[i]], offsets[i])

        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(work, (range(i, jobs, threads) for i in range(threads))))
        os.fdatasync(target)

    return run


def mull(folder: Path, method: str, threads: int, device: str = "cpu") -> Callable[[], None]:
    from mull.checkpoints.checkpoint import Checkpoint
    from mull.checkpoints.pair import Pair
    from mull.merging.coefficients import Coefficients
    from mull.merging.methods import METHODS, make
    from mull.merging.streaming.plan import plan_merge
    from mull.merging.streaming.stream import merge

    has_density = "density" in METHODS[method].__dataclass_fields__
    merge_method = make(method, {"density": DENSITY} if has_density else {})
    value = LAM if merge_method.takes == "lambda" else merge_method.default or 1.0

    def run() -> None:
        sides = [Checkpoint(folder / name) for name in ("instruct", "thinking", "base")]
        pair = Pair(*sides[: 3 if merge_method.base == "required" else 2])
        pair.check()
        coefficients = Coefficients.scalar(value, extrapolate=True)
        merge(plan_merge(pair, coefficients, method=merge_method), folder / "out", threads=threads, device=device)

    return run


def mull_cuda(folder: Path, method: str, threads: int) -> Callable[[], None]:
    import torch

    torch.zeros(1, device="cuda")  # starting the device takes seconds, which should not count for the merge
    return mull(folder, method, threads, device="cuda")


def mergekit(folder: Path, method: str, threads: int) -> Callable[[], None]:
    """Runs in mergekit's own environment."""
    import torch  # type: ignore[import-not-found]
    from mergekit.config import MergeConfiguration  # type: ignore[import-not-found]
    from mergekit.merge import MergeOptions, run_merge  # type: ignore[import-not-found]

    torch.set_num_threads(threads)
    instruct, thinking, base = (str(folder / name) for name in ("instruct", "thinking", "base"))

    def models(**parameters: float) -> list[dict[str, Any]]:
        return [{"model": name, "parameters": parameters} for name in (instruct, thinking)]

    weighted = [
        {"model": name, "parameters": {"weight": weight}} for name, weight in ((instruct, 1 - LAM), (thinking, LAM))
    ]
    trimmed = {"models": models(weight=1.0, density=DENSITY), "base_model": base}
    settings: dict[str, dict[str, Any]] = {
        "mi": {"merge_method": "linear", "models": weighted},
        "slerp": {"merge_method": "slerp", "models": models(), "base_model": instruct, "parameters": {"t": LAM}},
        "ta": {"merge_method": "task_arithmetic", "models": models(weight=1.0), "base_model": base},
        "ties": {"merge_method": "ties", **trimmed, "parameters": {"normalize": True}},
        "dare": {"merge_method": "dare_linear", **trimmed},
        "dare_ties": {"merge_method": "dare_ties", **trimmed},
        "breadcrumbs": {"merge_method": "breadcrumbs", **trimmed, "parameters": {"gamma": 0.01}},
        "della": {"merge_method": "della", **trimmed, "parameters": {"epsilon": 0.1}},
        "sce": {"merge_method": "sce", "models": models(), "base_model": base, "parameters": {"select_topk": DENSITY}},
        "model_stock": {"merge_method": "model_stock", "models": models(), "base_model": base},
        "nuslerp": {"merge_method": "nuslerp", "models": weighted, "parameters": {"nuslerp_row_wise": True}},
        "karcher": {"merge_method": "karcher", "models": models()},
    }

    def run() -> None:
        config = MergeConfiguration.model_validate({**settings[method], "dtype": "bfloat16"})
        options = MergeOptions(copy_tokenizer=False, write_model_card=False, quiet=True, num_threads=threads)
        run_merge(config, str(folder / "out"), options)

    return run


def shards(folder: Path, method: str, threads: int) -> Callable[[], None]:
    import torch
    from safetensors.torch import load_file, save_file

    torch.set_num_threads(threads)
    instruct, thinking, out = (folder / name for name in ("instruct", "thinking", "out"))

    def run() -> None:
        out.mkdir()
        left = {name: t for path in sorted(instruct.glob("*.safetensors")) for name, t in load_file(path).items()}
        for path in sorted(thinking.glob("*.safetensors")):
            right = load_file(path)
            save_file({name: torch.lerp(left[name], t, LAM) for name, t in right.items()}, out / path.name)
            with (out / path.name).open("rb") as file:
                os.fdatasync(file.fileno())

    return run


WAYS = {"floor": floor, "mull": mull, "mull-cuda": mull_cuda, "shards": shards, "mergekit": mergekit}


def peer_python() -> str:
    """The interpreter of mergekit's own environment, made on the first call."""
    python = PEER / "bin" / "python"
    if not python.exists():
        print("installing mergekit 0.1.5 and its torch into perf/.mergekit …", flush=True)
        subprocess.run([sys.executable, "-m", "venv", PEER], check=True)
        packages = ["torch==2.13.0", "mergekit==0.1.5"]
        subprocess.run([python, "-m", "pip", "install", "--quiet", *packages], check=True)
    return str(python)


def resident(field: str) -> float:
    """MB of a memory field of this process, e.g. VmHWM."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field + ":"))


def allocate_memory(folder: Path) -> None:
    """Write and remove as many bytes as the run will write, so that the memory for them is allocated: on a virtual
    machine the first use of a page costs more than everything measured here."""
    size = sum(path.stat().st_size for path in (folder / "thinking").glob("*.safetensors"))
    chunk = bytes(PIECE)
    with (folder / "filler").open("wb") as file:
        for _ in range(size // PIECE + 1):
            file.write(chunk)
    (folder / "filler").unlink()


def child(arguments: argparse.Namespace) -> None:
    way, _, method = arguments.way.partition(":")
    run = WAYS[way](arguments.folder, method, arguments.threads)
    allocate_memory(arguments.folder)
    imports = resident("VmHWM")
    before, start = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    run()
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF)
    user, system = after.ru_utime - before.ru_utime, after.ru_stime - before.ru_stime
    print(json.dumps({"cpu": user + system, "user": user, "wall": wall, "peak": resident("VmHWM"), "imports": imports}))


def measure(way: str, folder: Path, threads: int) -> dict[str, float]:
    python = peer_python() if way.startswith("mergekit") else sys.executable
    command = [python, __file__, "--way", way, "--folder", str(folder), "--threads", str(threads)]
    quiet = subprocess.DEVNULL if way.startswith("mergekit") else None
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=quiet, text=True, check=True)
    shutil.rmtree(folder / "out")
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=1.0, help="share of the layers and of the vocabulary")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each way")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--folder", type=Path, help="where to put the pair (default: a temporary folder)")
    parser.add_argument("--shape", choices=("dense", "moe"), default="dense")
    parser.add_argument("--methods", default=",".join(METHODS), help="methods of mull and, of these, of mergekit")
    parser.add_argument("--peers", default="shards,mergekit", help="what to measure beside the floor and mull")
    parser.add_argument("--cuda", action="store_true", help="also with --device cuda")
    parser.add_argument("--way", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.way:
        child(arguments)
        return
    peers = arguments.peers.split(",")
    methods = arguments.methods.split(",")
    ways = ["floor", *(f"mull:{method}" for method in methods), *(["shards"] if "shards" in peers else [])]
    ways += [f"mull-cuda:{method}" for method in methods] if arguments.cuda else []
    if "mergekit" in peers:
        peer_python()
        ways += [f"mergekit:{method}" for method in methods]
    with tempfile.TemporaryDirectory(dir=arguments.folder, prefix="mull-perf-") as temporary:
        folder = Path(temporary)
        tensors = (moe_shapes if arguments.shape == "moe" else dense_shapes)(arguments.scale)
        for seed, (name, count) in enumerate((("instruct", 2), ("thinking", 3), ("base", 1))):
            write_side(folder / name, tensors, count, seed, arguments.shape)
        os.sync()
        size = sum(path.stat().st_size for path in (folder / "thinking").glob("*.safetensors"))
        print(f"{len(tensors)} tensors, {size / 1e9:.2f} GB a side, {arguments.threads} threads", flush=True)
        runs: dict[str, list[dict[str, Any]]] = {way: [] for way in ways}
        for i in range(arguments.rounds):
            for way in ways[i % len(ways) :] + ways[: i % len(ways)]:
                runs[way].append(measure(way, folder, arguments.threads))
    report(runs)


def report(runs: dict[str, list[dict[str, float]]]) -> None:
    """Print the minimum of CPU seconds (other processes only add to them), the median of the others, and ratios to the
    first way."""
    columns: dict[str, Callable[[list[float]], float]] = {"cpu": min, "user": min, "wall": statistics.median}
    rows = {way: {key: pick([run[key] for run in runs[way]]) for key, pick in columns.items()} for way in runs}
    first = next(iter(rows.values()))
    names = f"{'CPU s':>8}{'×':>7}{'user s':>8}{'wall s':>9}{'×':>7}{'peak MB':>10}{'imports MB':>12}"
    print(f"{'':20}{names}   CPU s of each run")
    for way, row in rows.items():
        peak, imports = (max(run[key] for run in runs[way]) for key in ("peak", "imports"))
        cpu, wall = (f"{row[key]:.2f}{row[key] / first[key]:7.2f}" for key in ("cpu", "wall"))
        times = f"{cpu:>15}{row['user']:8.2f}{wall:>16}"
        each = ", ".join(f"{run['cpu']:.2f}" for run in runs[way])
        print(f"{way:20}{times}{peak:10.0f}{imports:12.0f}   {each}")


if __name__ == "__main__":
    main()
