"""What adapters of low rank lose on the built-in pair, beside exact interpolation at the same λ.

    python perf/rank.py OUT [--ranks 4,8,16,32,64,128] [--lambdas 0.4,0.6,0.8,1] [--questions 300] [-k 2]

For each rank the adapter of `mull extract-delta` is added to Instruct in float32, which is what a server with LoRA
computes. A sweep from Instruct to that sum has the weights Instruct + λ·B·A: those of the adapter at level λ. Every
sweep asks the same questions with the same seeds. Differences to the exact λ are paired by question, with 95 %
intervals that are not corrected for their number; the row "exact, other seed" shows how far equal weights are apart.
KL is that of the next token at the ends of prompts and along Thinking's greedy answers, on questions that no sweep
asks. The largest rank is that of the matrices: there only what adapters cannot hold is lost. A second call goes on from
what is in OUT.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

from safetensors.torch import load_file, save_file

from mull.analysis.metrics import metrics
from mull.analysis.paired import PairedDifference, paired_difference
from mull.analysis.records import Sample
from mull.api.sweeping import sweep
from mull.benchmarks import load_benchmark
from mull.checkpoints.pair import Pair
from mull.geometry.divergence import Divergence, divergences
from mull.merging.adapter.lowrank import Fidelity, plan_low_rank
from mull.merging.adapter.writing import PREFIX, WEIGHTS, extract
from mull.merging.coefficients import parse_lambdas
from mull.runs.store import RunStore
from mull.tiny import checkpoint_folder

INSTRUCT, THINKING = checkpoint_folder("instruct"), checkpoint_folder("thinking")
HELD_SEED = 7
"""Of the questions on which KL is measured."""
POSITIONS = 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("--ranks", default="4,8,16,32,64,128")
    parser.add_argument("--lambdas", default="0.4,0.6,0.8,1")
    parser.add_argument("--questions", type=int, default=300)
    parser.add_argument("-k", type=int, default=2)
    arguments = parser.parse_args()
    ranks, lams = [int(rank) for rank in arguments.ranks.split(",")], parse_lambdas(arguments.lambdas)
    asked = {question.text for question in load_benchmark("tiny", questions=arguments.questions).questions()}
    held = load_benchmark("tiny", questions=100, seed=HELD_SEED).questions()
    prompts = [[{"role": "user", "content": each.text}] for each in held if each.text not in asked]

    def sampled(name: str, thinking: Path, seed: int = 0) -> list[Sample]:
        """The responses between Instruct and `thinking`, with settings called `name@λ`."""
        folder = arguments.out / "runs" / name.replace(" ", "-")
        pair = Pair.open(str(INSTRUCT), str(thinking))
        sweep(pair, out=folder, lambdas=[0.0, *lams], k=arguments.k, questions=arguments.questions, seed=seed)
        with RunStore.open(folder) as store:
            return [replace(each, setting=f"{name}@{each.lam:g}") for each in store.samples(texts=False)]

    # The end λ = 0 is Instruct in all of them; a sweep has it to stand beside the others.
    samples = sampled("exact", THINKING) + sampled("exact, other seed", THINKING, seed=1)
    found: dict[str, tuple[Fidelity, list[Divergence]]] = {}
    for rank in ranks:
        fidelity = adapted(rank, arguments.out)
        adapter = arguments.out / f"adapter-{rank}"
        kl = divergences(INSTRUCT, THINKING, adapter, prompts, lams, positions=POSITIONS)
        found[f"rank {rank}"] = fidelity, kl
        samples += sampled(f"rank {rank}", arguments.out / f"sum-{rank}")
    lines = list(tables(samples, found, lams))
    (arguments.out / "table.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))
    print(f"{len(prompts)} prompts × up to {POSITIONS} positions; {arguments.questions} questions × {arguments.k}")


def adapted(rank: int, out: Path) -> Fidelity:
    """Write the adapter of this rank, and Instruct + B·A in float32 as a checkpoint with Thinking's template."""
    adapter, total = out / f"adapter-{rank}", out / f"sum-{rank}"
    fidelity = extract(plan_low_rank(pair_for_adapters(), rank), adapter, overwrite=True)
    if total.exists():
        return fidelity
    partial = out / f".sum-{rank}"
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(THINKING, partial)
    tensors = {name: tensor.float() for name, tensor in load_file(INSTRUCT / "model.safetensors").items()}
    stored = load_file(adapter / WEIGHTS)
    for name, a in stored.items():
        if ".lora_A." in name:
            b = stored[name.replace(".lora_A.", ".lora_B.")]
            tensors[name.removeprefix(PREFIX).replace(".lora_A.", ".")] += b.float() @ a.float()
    save_file(tensors, partial / "model.safetensors", {"format": "pt"})
    config = json.loads((partial / "config.json").read_text()) | {"torch_dtype": "float32"}
    (partial / "config.json").write_text(json.dumps(config))
    partial.rename(total)
    return fidelity


def pair_for_adapters() -> Pair:
    pair = Pair.open(str(INSTRUCT), str(THINKING), donor="instruct")
    pair.check()
    return pair


def tables(
    samples: list[Sample], found: dict[str, tuple[Fidelity, list[Divergence]]], lams: list[float]
) -> Iterator[str]:
    """Markdown: a table of accuracies, one of tokens, one of thoughts and divergences; a row for each rank."""
    head = ["weights", *(f"λ = {lam:g}" for lam in lams)]
    of = {"exact": [f"exact@{lam:g}" for lam in lams], "Instruct alone": ["exact@0"] * len(lams)}
    of |= {name: [f"{name}@{lam:g}" for lam in lams] for name in ("exact, other seed", *found)}
    values = {each.setting: each for each in metrics(samples)}
    order = ["exact", "exact, other seed", *reversed(found), "Instruct alone"]

    def less_exact(name: str, value: Literal["correct", "tokens"]) -> list[str]:
        return [
            shown(paired_difference(samples, setting, exact, value), 100 if value == "correct" else 1)
            for setting, exact in zip(of[name], of["exact"], strict=True)
        ]

    yield from ("Mean@k in %, and of the others how many points more:", "", row(head), row("---" for _ in head))
    yield row(["exact", *(f"{100 * values[each].mean_at_k.value:.1f}" for each in of["exact"])])
    yield from (row([name, *less_exact(name, "correct")]) for name in order[1:])
    yield from ("", "Tokens of a response, and of the others how many more:", "", row(head), row("---" for _ in head))
    yield row(["exact", *(f"{values[each].tokens.value:.1f}" for each in of["exact"])])
    yield from (row([name, *less_exact(name, "tokens")]) for name in order[1:])
    yield from ("", "Think #R in %, and KL(Θ(λ) ‖ weights) in nats per token:", "")
    yield from (row(["weights", "relative error", *head[1:]]), row("---" for _ in [0, *head]))
    kl_of = {name: [each.adapter.mean for each in kl] for name, (_, kl) in found.items()}
    kl_of |= {"Instruct alone": [each.instruct.mean for each in next(iter(found.values()))[1]]}
    for name in order:
        error = f"{found[name][0].whole_model_error:.3f}" if name in found else "1" if name in kl_of else "0"
        kls = kl_of.get(name, [0.0] * len(lams))
        cells = zip(of[name], kls, strict=True)
        yield row([name, error, *(f"{100 * values[each].think_ratio.value:.1f}; {kl:.1g}" for each, kl in cells)])


def row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def shown(found: PairedDifference, scale: float) -> str:
    middle, low, high = (f"{scale * each:+.1f}" for each in (found.difference, found.low, found.high))
    return f"{middle} [{low}, {high}]".replace("-", "−")


if __name__ == "__main__":
    main()
