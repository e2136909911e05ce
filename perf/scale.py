"""Peak memory and time of a long sweep and of its report, on synthetic responses.

    python perf/scale.py                     # 30 questions × 64 samples × 13 λ of 66,000 characters: 1.7 GB of disk
    python perf/scale.py --samples 8 --json

Each step runs in a new process; its peak is that of the resident set (VmHWM), imports included:

sweep    a sweep with a fake engine into a run folder: memory of the store, the grading and the live table
report   `mull report` on that folder
export   the Parquet file of all samples
"""

from __future__ import annotations

import argparse
import io
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

STEPS = ("sweep", "report", "export")


class Talker:
    """A fake engine whose responses are long and all different, and take little time."""

    def __init__(self, characters: int) -> None:
        self.characters = characters

    def set_weights(self, weights: Any) -> None:
        self.lam = weights.coefficients.default

    def render(self, messages: list[dict[str, str]]) -> tuple[int, ...]:
        return tuple(messages[-1]["content"].encode())

    def generate(self, requests: Iterable[Any]) -> Iterator[Any]:
        from mull.engines.base import Completion

        for request in requests:
            drawn = random.Random(request.seed)
            answer = f"\\boxed{{{drawn.randrange(3)}}}"
            if drawn.random() < self.lam:
                line = f"Step {drawn.random()}: carry on.\n"
                answer = f"<think>\n{line * (self.characters // len(line))}</think>\n\n{answer}"
            else:
                answer = f"{answer}\n" + f"{drawn.random()} " * (self.characters // 20)
            tokens = len(answer) // 3
            yield Completion(
                id=request.id, token_ids=(), logprobs=(), text=answer, finish="stop", seconds=1.0, counted=tokens
            )


def sweep(folder: Path, options: argparse.Namespace) -> None:
    from rich.console import Console

    from mull.api.progress.terminal import Terminal
    from mull.benchmarks import load_benchmark
    from mull.engines.base import Sampling
    from mull.merging.coefficients import Coefficients
    from mull.runs.plan import SweepPlan
    from mull.runs.sessions import session
    from mull.runs.sessions.loading import GivenLoader
    from mull.runs.settings import Setting

    grid = [Setting.of(Coefficients.scalar(i / (options.lambdas - 1))) for i in range(options.lambdas)]
    benchmark = load_benchmark("tiny", questions=options.questions)
    plan = SweepPlan(None, grid, benchmark, options.samples, Sampling())
    talker = Talker(options.characters)
    session.sweep(plan, folder, GivenLoader(talker, "talker"), Terminal(Console(file=io.StringIO())))


def report(folder: Path, options: argparse.Namespace) -> None:
    from typer.testing import CliRunner

    from mull.cli.main import app

    found = CliRunner().invoke(app, ["report", str(folder), "--out", str(folder.parent / "report")])
    assert found.exit_code == 0, found.output


def export(folder: Path, options: argparse.Namespace) -> None:
    from mull.runs.frames import write_parquet
    from mull.runs.store import RunStore

    with RunStore.open(folder) as store:
        write_parquet(store, folder.parent / "samples.parquet")


def peak() -> float:
    """Peak resident memory of this process, MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1000 for line in lines if line.startswith("VmHWM"))


def measure(folder: Path, step: str, options: argparse.Namespace) -> dict[str, float]:
    """Peak MB and seconds of one step, in a new process."""
    sizes = [f"--{name}={getattr(options, name)}" for name in ("questions", "samples", "lambdas", "characters")]
    command = [sys.executable, __file__, *sizes, "--folder", str(folder), "--step", step]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=30)
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--lambdas", type=int, default=13)
    parser.add_argument("--characters", type=int, default=66_000, help="per response")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--folder", type=Path, help="keep the run here")
    parser.add_argument("--step", choices=STEPS, help="only this, in this process")
    options = parser.parse_args()
    if options.step:
        start = time.perf_counter()
        {"sweep": sweep, "report": report, "export": export}[options.step](options.folder, options)
        print(json.dumps({"peak_mb": round(peak(), 1), "seconds": round(time.perf_counter() - start, 1)}))
        return
    with tempfile.TemporaryDirectory(prefix="mull-scale-") as made:
        folder = options.folder or Path(made) / "run"
        found = {step: measure(folder, step, options) for step in STEPS}
        size = sum(path.stat().st_size for path in folder.iterdir() if path.is_file()) / 1e6
    count = options.questions * options.samples * options.lambdas
    if options.json:
        print(json.dumps({"responses": count, "store_mb": size, **found}))
        return
    print(f"{count:,} responses of {options.characters:,} characters, store {size:,.0f} MB")
    for step, values in found.items():
        print(f"{step:8} peak {values['peak_mb']:7,.0f} MB {values['seconds']:7,.1f} s")


if __name__ == "__main__":
    main()
