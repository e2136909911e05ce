"""Useful tokens per second of the local engine and of transformers' `generate()`, on one ragged workload.

    python perf/engine.py [--instruct DIR --thinking DIR] [--lam 0.8] [--requests 512] [--rounds 3]

Both take the same rendered prompts, sampling parameters and weights and stop each row at its end-of-text token or at
its own token limit; tokens behind that are not counted. `generate()` runs at each of its batch sizes, prompts sorted by
length and padded on the left, each batch up to the largest limit in it: nobody knows lengths beforehand.
Runs alternate, so that a busy machine is busy for both; CPU seconds are printed for machines that stay busy.
"""

from __future__ import annotations

import argparse
import random
import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

import mull.tiny
from mull.engines.base import Request, Sampling
from mull.engines.local import LocalEngine
from mull.merging.coefficients import Coefficients

BUILT_IN = Path(mull.tiny.__file__).parent / "weights"


def main() -> None:
    arguments = _arguments()
    engine = LocalEngine(arguments.instruct, arguments.thinking, device="cpu", batch_size=arguments.batch_size)
    engine.set_weights(Coefficients.scalar(arguments.lam))
    requests = workload(engine, arguments.requests, ends_early=arguments.eos)
    if not arguments.eos:
        engine.stop_ids = frozenset()
    reference = AutoModelForCausalLM.from_pretrained(arguments.thinking, dtype=torch.float32).eval()
    reference.load_state_dict(engine.model.state_dict())
    if not arguments.eos:
        reference.generation_config.eos_token_id = None
    contenders: dict[str, Callable[[], int]] = {"mull": lambda: ours(engine, requests)}
    for size in arguments.batch_sizes:
        contenders[f"generate() of {size}"] = lambda size=size: theirs(reference, engine.stop_ids, requests, size)
    rates: dict[str, list[tuple[float, float]]] = {name: [] for name in contenders}
    for number in range(arguments.rounds):
        for name, run in contenders.items():
            started, cpu = time.perf_counter(), _cpu_seconds()
            tokens = run()
            seconds, cpu = time.perf_counter() - started, _cpu_seconds() - cpu
            rates[name].append((tokens / seconds, tokens / cpu))
            print(
                f"round {number + 1}  {name:18}  {tokens:8,} tokens  {seconds:7.2f} s  "
                f"{tokens / seconds:8,.0f} tokens/s  {tokens / cpu:8,.0f} tokens/CPU-s",
                flush=True,
            )
    medians = {name: [statistics.median(column) for column in zip(*runs, strict=True)] for name, runs in rates.items()}
    for column, unit in enumerate(("tokens/s", "tokens/CPU-s")):
        mull_rate = medians["mull"][column]
        best = max((name for name in medians if name != "mull"), key=lambda name: medians[name][column])
        print(
            f"median of {arguments.rounds}: mull {mull_rate:,.0f} {unit}, best {best} "
            f"{medians[best][column]:,.0f} {unit}: ratio {mull_rate / medians[best][column]:.2f}"
        )


def workload(engine: LocalEngine, count: int, *, ends_early: bool) -> list[Request]:
    """Prompts of 25–45 tokens; limits of 20–60 tokens for half of the rows and 100–600 for the others.

    With `ends_early` every limit is 700 and the model itself ends the rows.
    """
    rng = random.Random(0)
    vocabulary = [i for i in range(engine.model.config.vocab_size) if i not in engine.tokenizer.all_special_ids]
    requests = []
    for index in range(count):
        limit = rng.randint(20, 60) if rng.random() < 0.5 else rng.randint(100, 600)
        prompt = tuple(rng.choice(vocabulary) for _ in range(rng.randint(25, 45)))
        if ends_early:
            words = engine.tokenizer.decode([rng.choice(vocabulary) for _ in range(16)])
            limit, prompt = 700, engine.render([{"role": "user", "content": words}])
        requests.append(Request(id=str(index), prompt_ids=prompt, seed=index, sampling=Sampling(max_tokens=limit)))
    return requests


def ours(engine: LocalEngine, requests: list[Request]) -> int:
    """Tokens that the local engine made."""
    return sum(len(completion.token_ids) for completion in engine.generate(requests))


def theirs(model: torch.nn.Module, stop_ids: frozenset[int], requests: list[Request], size: int) -> int:
    """Useful tokens that `generate()` made in batches of `size`."""
    useful = 0
    in_order = sorted(requests, key=lambda request: len(request.prompt_ids))
    torch.manual_seed(0)
    for start in range(0, len(in_order), size):
        batch = in_order[start : start + size]
        width = max(len(request.prompt_ids) for request in batch)
        ids = torch.zeros(len(batch), width, dtype=torch.int64)
        mask = torch.zeros_like(ids)
        for row, request in enumerate(batch):
            ids[row, width - len(request.prompt_ids) :] = torch.tensor(request.prompt_ids)
            mask[row, width - len(request.prompt_ids) :] = 1
        sampling = batch[0].sampling
        made = model.generate(  # type: ignore[operator]
            ids,
            attention_mask=mask,
            do_sample=True,
            temperature=sampling.temperature,
            top_k=sampling.top_k,
            top_p=sampling.top_p,
            max_new_tokens=max(request.sampling.max_tokens for request in batch),
            **({"eos_token_id": sorted(stop_ids)} if stop_ids else {}),
            pad_token_id=0,
        )[:, width:]
        for request, row in zip(batch, made.tolist(), strict=True):
            row = row[: request.sampling.max_tokens]
            ends = [position + 1 for position, token in enumerate(row) if token in stop_ids]
            useful += min(ends, default=len(row))
    return useful


def _cpu_seconds() -> float:
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(part.ru_utime + part.ru_stime for part in usage)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pair", type=Path, help="a folder that holds instruct/ and thinking/")
    parser.add_argument("--instruct", type=Path)
    parser.add_argument("--thinking", type=Path)
    parser.add_argument("--lam", type=float, default=0.8, help="λ of the weights")
    parser.add_argument("--requests", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--batch-size", type=int, help="the local engine's rows per process; its own choice unless given"
    )
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[64, 128, 256], help="of generate()")
    parser.add_argument(
        "--eos", action="store_true", help="end rows by end-of-text (a trained pair) instead of by limit"
    )
    arguments = parser.parse_args()
    pair = arguments.pair or BUILT_IN
    arguments.instruct = arguments.instruct or pair / "instruct"
    arguments.thinking = arguments.thinking or pair / "thinking"
    return arguments


if __name__ == "__main__":
    main()
