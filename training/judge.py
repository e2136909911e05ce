"""Judge a trained pair by what it is for: `python -m training.judge PAIR --run DIR [--split tune]`.

Sweeps λ over one split of the problems and prints, by stratum, accuracy, tokens and Think #R, every λ against λ = 1
(also among the responses that ended by themselves), what became of right first passes, and the head-room of λ per
query. Recipes are judged on `tune`; `report` is for the one that is shipped.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

from mull.benchmarks.arithmetic import Arithmetic
from mull.checkpoints.pair import Pair
from mull.cli.headroom import show
from mull.cli.options import consoles
from mull.cli.sweep import sample
from mull.cli.tables import stages_text
from mull.engines.base import Sampling
from mull.engines.local import arithmetic
from mull.merging.coefficients import Coefficients
from mull.study.headroom import headroom
from mull.study.metrics import by_stratum, metrics
from mull.study.paired import paired_difference
from mull.study.records import Sample
from mull.study.stages import stages_of_samples
from mull.sweeps.plan import SweepPlan
from mull.sweeps.settings import Setting
from mull.sweeps.store import RunStore

LAMBDAS = (0, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1)


def judge(samples: Sequence[Sample]) -> None:
    """Print what `samples`, texts included, say of the pair."""
    strata = by_stratum(samples)
    print("right % / tokens / Think #R %, by stratum; ± one standard error of all")
    for i, m in enumerate(metrics(samples)):
        cells = [
            f"{name} {100 * s[i].mean_at_k.value:5.1f} {s[i].tokens.value:6.1f} {100 * s[i].think_ratio.value:5.1f}"
            for name, s in strata.items()
        ]
        every = f"{100 * m.mean_at_k.value:5.1f} ±{100 * m.mean_at_k.error:.1f} pass {100 * m.pass_at_k.value:5.1f}"
        print(f"{m.setting:>5}  {every} {m.tokens.value:6.1f} {100 * m.truncation.value:4.1f} | " + " | ".join(cells))
    print("\naccuracy and tokens less those of λ = 1, paired 95 %; the same among responses that ended by themselves")
    ended = [s for s in samples if s.finish == "stop"]
    for m in metrics(samples)[:-1]:
        for rows in (samples, ended):
            right, cost = (paired_difference(rows, m.setting, "1", value) for value in ("correct", "tokens"))
            span = f"({100 * right.low:+.1f} to {100 * right.high:+.1f})"
            print(f"  {m.setting:>5} {100 * right.difference:+6.1f} {span} tokens {cost.difference:+7.1f}", end="")
        print()
    print("\nof thoughts with a right first pass: share whose answer is wrong; of those with a wrong one: right (n)")
    for m in metrics(samples):
        kept = [s for s in samples if s.setting == m.setting and s.thinking == "closed"]
        spoilt, mended = [], []
        for s in kept:
            first = re.split(r"Wait, let|Check again|Hmm, ver|</think>", s.text)[0]
            found = re.findall(r"=(\d\d)", first)
            truth = _truth(s)
            (spoilt if found and found[-1] == truth else mended).append(s.correct)
        if kept:
            a, b = (sum(x) / len(x) if x else float("nan") for x in (spoilt, mended))
            print(f"  {m.setting:>5} {100 * (1 - a):5.1f} % of {len(spoilt)};  {100 * b:5.1f} % of {len(mended)}")
    print(f"\n{stages_text(stages_of_samples(samples))}\n")
    show(headroom(samples), consoles()[0])


_gold: dict[str, str] = {}


def _truth(sample: Sample) -> str:
    return _gold[sample.question]


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
    engine = arithmetic(pair.donor.folder)
    plan = SweepPlan(pair, settings, benchmark, args.k, Sampling(max_tokens=benchmark.max_tokens), engine=engine)
    sample(plan, args.run)
    _gold.update({question.id: f"{int(question.gold):02d}" for question in benchmark.questions()})
    with RunStore.open(args.run) as store:
        judge(store.samples())


if __name__ == "__main__":
    main()
