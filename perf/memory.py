"""Memory of the local engine beside what `--dry-run` says, for each place of the ends, and the price of each dtype.

    python perf/memory.py [--scale 0.5] [--rows 8] [--tokens 32]

On a random pair of Qwen3-0.6B's shape (scale 1; 0.5 has half the layers and vocabulary: 298 M parameters) in bfloat16,
with the built-in pair's tokenizer, on CPU, one thread. Each way is a process of its own, which loads, sets λ = 0.3 and
decodes. A thread reads RssAnon and RssFile of /proc/self/status every 2 ms. RssAnon is memory of the process's own;
RssFile are pages of mapped files, which the system drops when memory is short. Both are counted from the beginning of
that process and shown as multiples of one checkpoint's bytes: the peak of the whole way, and what is held at its end.
"says" is what the dry run gives for weights and cache, without activations. CPU seconds a step: the least of three.
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
import threading
import time
from multiprocessing.connection import Connection
from pathlib import Path

import torch
from switch import write_side

from mull.engines.base import Request, Sampling
from mull.engines.local.engine import LocalEngine
from mull.engines.local.needs import memory_needs
from mull.engines.weights.placement import Placement, weight_bytes
from mull.merging.coefficients import Coefficients
from mull.tiny import checkpoint_folder

WAYS = ["files float32", "files bfloat16", "memory float32", "memory bfloat16", "by_row float32", "by_row bfloat16"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=0.5, help="share of the layers and of the vocabulary")
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=32)
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # processes are forked, so no thread may have been started
    fork = multiprocessing.get_context("fork")
    with tempfile.TemporaryDirectory(prefix="mull-perf-") as temporary:
        for seed, side in enumerate(("instruct", "thinking")):
            # In another process: memory that this one has freed would be taken again without being counted.
            writer = fork.Process(target=write_side, args=(Path(temporary) / side, arguments.scale, seed))
            writer.start()
            writer.join()
            for file in checkpoint_folder("thinking").glob("tokenizer*"):
                (Path(temporary) / side / file.name).write_bytes(file.read_bytes())
        folders = {side: Path(temporary) / side for side in ("instruct", "thinking")}
        print(f"one checkpoint: {weight_bytes(folders, 'thinking', None).mixed / 1e6:.0f} MB; multiples of it:")
        print(f"{'':16}  own: peak  held  says   files: peak    load s  set λ s   CPU s a step")
        for way in WAYS:
            receiver, sender = fork.Pipe()
            process = fork.Process(target=measure, args=(way, Path(temporary), arguments, sender))
            process.start()
            found = receiver.recv()
            process.join()
            print(
                f"{way:16}  {found['peak']:9.2f} {found['held']:5.2f} {found['says']:5.2f} {found['files']:13.2f} "
                f"{found['load']:9.2f} {found['set']:8.2f} {found['step']:14.3f}",
                flush=True,
            )


class Watch(threading.Thread):
    """Notes the largest own and file-backed memory of this process, in bytes."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.start_own, self.start_files = self.now()
        self.own = self.files = 0

    def run(self) -> None:
        while True:
            own, files = self.now()
            self.own, self.files = max(self.own, own), max(self.files, files)
            time.sleep(0.002)

    @staticmethod
    def now() -> tuple[int, int]:
        lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
        own, files = (int(lines[name].split()[0]) << 10 for name in ("RssAnon", "RssFile"))
        return own, files


def measure(way: str, folder: Path, arguments: argparse.Namespace, sender: Connection) -> None:
    place, kind = way.split()
    by_row, dtype = place == "by_row", getattr(torch, kind)
    folders = {side: folder / side for side in ("instruct", "thinking")}
    one = weight_bytes(folders, "thinking", None).mixed
    ends = Placement.files if by_row else Placement(place)
    length = 16 + arguments.tokens
    needs = memory_needs(
        folders, "thinking", torch.device("cpu"),
        tokens=length, batch_size=arguments.rows, dtype=dtype, ends=ends,
    )  # fmt: skip
    watch = Watch()
    watch.start()
    began = time.perf_counter()
    engine = LocalEngine(
        *folders.values(), device="cpu", dtype=dtype, by_row=by_row, ends=ends, batch_size=arguments.rows, threads=1
    )
    loaded = time.perf_counter()
    if not by_row:
        engine.set_weights(Coefficients.scalar(0.3))
    mixed = time.perf_counter()
    sampling = Sampling(temperature=0, max_tokens=arguments.tokens)
    requests = [
        Request(
            id=str(i), prompt_ids=tuple(range(5 + i, 21 + i)), seed=i, sampling=sampling, lam=0.3 if by_row else None
        )
        for i in range(arguments.rows)
    ]
    steps = []
    for _ in range(3):
        began_step = time.process_time()
        longest = max(len(completion.token_ids) for completion in engine.generate(requests))
        steps.append((time.process_time() - began_step) / longest)
    held, _ = watch.now()
    says = needs.peak + by_row * needs.mixed
    found = {
        "peak": (watch.own - watch.start_own) / one,
        "held": (held - watch.start_own) / one,
        "says": says / one,
        "files": (watch.files - watch.start_files) / one,
        "load": loaded - began,
        "set": mixed - loaded,
        "step": min(steps),
    }
    sender.send(found)


if __name__ == "__main__":
    main()
