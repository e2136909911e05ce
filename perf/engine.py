"""Useful tokens per second of the local engine and of transformers' `generate()`, on the workload of `mull demo`.

    python perf/engine.py [--lambdas 0 0.5 1] [--questions 120] [-k 8] [--rounds 3]

Both get the same prompts (the built-in benchmark's with the Thinking template), sampling and weights. Tokens after the
end-of-text token of a row are not useful. `generate()` gets batches in order of prompt length, padded on the left, with
every combination of batch size and number of threads; a batch ends with its longest row. Every run is a new process,
and the contenders take turns, so that other load on the machine affects both. Loading is not counted.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time

from mull.tiny import checkpoint_folder

OURS = "mull"


def main() -> None:
    arguments = _arguments()
    if arguments.only:
        print(json.dumps(_run(arguments)))
        return
    threads = sorted({1, os.cpu_count() or 1})
    contenders = [OURS, *(f"generate() {size} rows, {n} threads" for size in arguments.batch_sizes for n in threads)]
    rates: dict[str, list[tuple[float, float]]] = {name: [] for name in contenders}
    for number in range(arguments.rounds):
        for name in contenders:
            command = [sys.executable, __file__, *sys.argv[1:], "--only", name]
            result = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
            tokens, seconds, cpu = result["tokens"], result["seconds"], result["cpu"]
            rates[name].append((tokens / seconds, tokens / cpu))
            print(
                f"round {number + 1}  {name:31}  {tokens:8,} tokens  {seconds:7.2f} s  "
                f"{tokens / seconds:8,.0f} tokens/s  {tokens / cpu:8,.0f} tokens/CPU-s",
                flush=True,
            )
    for column, unit in enumerate(("tokens/s", "tokens/CPU-s")):
        medians = {name: statistics.median(run[column] for run in runs) for name, runs in rates.items()}
        best = max((name for name in medians if name != OURS), key=lambda name: medians[name])
        print(
            f"median of {arguments.rounds}: mull {medians[OURS]:,.0f} {unit}, best {best} "
            f"{medians[best]:,.0f} {unit}: ratio {medians[OURS] / medians[best]:.2f}"
        )


def _run(arguments: argparse.Namespace) -> dict[str, float]:
    """Run the whole workload of one contender: useful tokens, wall seconds, CPU seconds."""
    import torch
    from transformers import AutoModelForCausalLM

    from mull.benchmarks import load_benchmark
    from mull.engines.base import Request, Sampling
    from mull.engines.local.engine import LocalEngine
    from mull.merging.coefficients import Coefficients

    benchmark = load_benchmark("tiny", questions=arguments.questions)
    ends = (checkpoint_folder("instruct"), checkpoint_folder("thinking"))
    engine = LocalEngine(*ends, device="cpu")
    sampling = Sampling(max_tokens=benchmark.max_tokens)
    prompts = [engine.render(benchmark.prompt(question)) for question in benchmark.questions()]
    prompts = sorted((prompt for prompt in prompts for _ in range(arguments.k)), key=len, reverse=True)
    requests = [Request(id=str(i), prompt_ids=prompt, seed=i, sampling=sampling) for i, prompt in enumerate(prompts)]
    reference = None
    if arguments.only != OURS:
        _, size, _, threads, _ = arguments.only.split()
        reference = AutoModelForCausalLM.from_pretrained(ends[1], dtype=torch.float32).eval()
        torch.set_num_threads(int(threads))
    tokens, wall, cpu = 0, 0.0, 0.0
    for lam in arguments.lambdas:
        engine.set_weights(Coefficients.scalar(lam))
        if reference is not None:
            reference.load_state_dict(engine.model.state_dict())
        started, before = time.perf_counter(), _cpu_seconds()
        if reference is None:
            tokens += sum(len(completion.token_ids) for completion in engine.generate(requests))
        else:
            tokens += generate(reference, engine.prompts.stop_ids, requests, int(size))
        wall += time.perf_counter() - started
        cpu += _cpu_seconds() - before
    return {"tokens": tokens, "seconds": wall, "cpu": cpu}


def generate(model, stop_ids: frozenset[int], requests: list, size: int) -> int:
    """The number of useful tokens of transformers' `generate()` in batches of `size`."""
    import torch

    useful = 0
    torch.manual_seed(0)
    for start in range(0, len(requests), size):
        batch = requests[start : start + size]
        width = max(len(request.prompt_ids) for request in batch)
        ids = torch.zeros(len(batch), width, dtype=torch.int64)
        mask = torch.zeros_like(ids)
        for row, request in enumerate(batch):
            ids[row, width - len(request.prompt_ids) :] = torch.tensor(request.prompt_ids)
            mask[row, width - len(request.prompt_ids) :] = 1
        sampling = batch[0].sampling
        made = model.generate(
            ids,
            attention_mask=mask,
            do_sample=True,
            temperature=sampling.temperature,
            top_k=sampling.top_k,
            top_p=sampling.top_p,
            max_new_tokens=sampling.max_tokens,
            eos_token_id=sorted(stop_ids),
            pad_token_id=0,
        )[:, width:]
        for row in made.tolist():
            ends = [position + 1 for position, token in enumerate(row) if token in stop_ids]
            useful += min(ends, default=len(row))
    return useful


def _cpu_seconds() -> float:
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(part.ru_utime + part.ru_stime for part in usage)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lambdas", type=float, nargs="+", default=[0.0, 0.5, 1.0])
    parser.add_argument("--questions", type=int, default=120)
    parser.add_argument("-k", type=int, default=8, help="samples per question")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[64, 128, 256], help="of generate()")
    parser.add_argument("--only", help=argparse.SUPPRESS)  # one run, in a process of its own
    return parser.parse_args()


if __name__ == "__main__":
    main()
