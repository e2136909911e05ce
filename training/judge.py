"""Measure what a trained pair shows: `python -m training.judge PAIR --run DIR [--split tune]`.

Sweeps λ over one split of the problems and prints: accuracy, tokens and Think #R by stratum; every λ compared with
λ = 1 (also among the responses that ended by themselves only); how often a right first pass ends in a wrong answer; and
the head-room of λ per query. Recipes are compared on `tune`; `report` is for the shipped one.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from mull.analysis.choosing.headroom import headroom
from mull.analysis.metrics import by_stratum, metrics
from mull.analysis.paired import PairedDifference, paired_difference
from mull.analysis.records import Sample
from mull.analysis.stages import stages_of_samples
from mull.api.progress.terminal import Terminal
from mull.benchmarks.arithmetic import Arithmetic
from mull.checkpoints.pair import Pair
from mull.cli.options.common import consoles
from mull.cli.rendering.summary import stages_text
from mull.cli.verbs.headroom import show
from mull.engines.base import Sampling
from mull.merging.coefficients import Coefficients
from mull.runs.plan import SweepPlan
from mull.runs.sessions import session
from mull.runs.sessions.loading import LocalLoader
from mull.runs.settings import Setting
from mull.runs.store import RunStore
from training.corpus import CHECKS, THINK_CLOSE

LAMBDAS = (0, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1)


def judge(samples: Sequence[Sample], gold: Mapping[str, str]) -> None:
    """Print all results of `samples`, which need their texts; `gold`: question id → answer."""
    found, strata = metrics(samples), by_stratum(samples)
    print("right % ± standard error, Pass@k %, tokens, cut off % | by stratum: right %, tokens, Think #R %")
    for i, m in enumerate(found):
        cells = [
            f"{name} {100 * s[i].mean_at_k.value:5.1f} {s[i].tokens.value:6.1f} {100 * s[i].think_ratio.value:5.1f}"
            for name, s in strata.items()
        ]
        right = f"{100 * m.mean_at_k.value:5.1f} ± {100 * m.mean_at_k.error:.1f}  {100 * m.pass_at_k.value:5.1f}"
        print(f"{m.setting:>5}  {right} {m.tokens.value:6.1f} {100 * m.truncation.value:4.1f} | " + " | ".join(cells))
    print("\nless λ = 1, paired 95 %: accuracy of all, of the responses that ended by themselves, tokens")
    ended = [sample for sample in samples if sample.finish == "stop"]
    for m in found[:-1]:
        right, whole = (paired_difference(rows, m.setting, "1") for rows in (samples, ended))
        cost = paired_difference(samples, m.setting, "1", "tokens").difference
        print(f"{m.setting:>5} {_points(right)}  {_points(whole)}  {cost:+7.1f}")
    print("\nthoughts with a right first pass: how many, and the share of them whose answer is wrong all the same")
    for m in found:
        rows = [sample for sample in samples if sample.setting == m.setting and sample.thinking == "closed"]
        right_first = [sample.correct for sample in rows if _first_pass(sample.text) == int(gold[sample.question])]
        if right_first:
            share = 1 - sum(right_first) / len(right_first)
            print(f"{m.setting:>5} {len(right_first)} of {len(rows)}: {100 * share:.1f} %")
    print(f"\n{stages_text(stages_of_samples(samples))}\n")
    show(headroom(samples), consoles()[0])


def _points(difference: PairedDifference) -> str:
    mean, low, high = (100 * each for each in (difference.difference, difference.low, difference.high))
    return f"{mean:+6.1f} ({low:+.1f} to {high:+.1f})"


def _first_pass(text: str) -> int | None:
    """The value before the first check of a thought, None if there is none."""
    values = re.findall(r"=(\d\d)\n", re.split("|".join(map(re.escape, CHECKS)), text.split(THINK_CLOSE)[0])[0])
    return int(values[-1]) if values else None


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m training.judge", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("pair", type=Path, help="folder with instruct/ and thinking/")
    parser.add_argument("--run", type=Path, required=True, help="run folder")
    parser.add_argument("--split", choices=("tune", "report"), default="tune")
    parser.add_argument("--questions", type=int, default=120)
    parser.add_argument("-k", type=int, default=8)
    parser.add_argument("--lambdas", type=float, nargs="+", default=LAMBDAS)
    args = parser.parse_args()
    benchmark = Arithmetic(args.questions, split=args.split)
    pair = Pair.open(str(args.pair / "instruct"), str(args.pair / "thinking"))
    settings = [Setting.of(Coefficients.scalar(lam)) for lam in args.lambdas]
    plan = SweepPlan(pair, settings, benchmark, args.k, Sampling(max_tokens=benchmark.max_tokens))
    session.sweep(plan, args.run, LocalLoader(), Terminal(consoles()[1]))
    with RunStore.open(args.run) as store:
        judge(store.samples(), {question.id: question.gold for question in benchmark.questions()})


if __name__ == "__main__":
    main()
