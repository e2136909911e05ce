"""What the third turn of a long conversation waits for its first token, with and without keeping the earlier turns.

    python perf/turns.py [--tokens 900] [--rounds 10] [--large]

On the built-in pair, with --large instead on a random pair of about 100 M parameters, at λ = 0.5, on one thread. Each
round is another conversation of random tokens: two turns of half of `--tokens` each, then a short question. Both
contenders hold it, one after the other, and the one that begins changes from round to round. Reported are the
processor's seconds of this process from the third request to its first token: the median of each contender, and the
median and range of the ratio within a round.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from contextlib import closing
from pathlib import Path

import numpy as np
from mixed import random_pair

from mull.engines.base import Request, Sampling
from mull.engines.local.engine import LocalEngine
from mull.engines.local.streams import Streams
from mull.tiny import checkpoint_folder

QUESTION = 30
"""Tokens of the last question."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=900)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--large", action="store_true", help="a random pair of about 100 M parameters")
    arguments = parser.parse_args()
    if not arguments.large:
        measure("built-in pair", checkpoint_folder("instruct"), checkpoint_folder("thinking"), arguments)
        return
    with tempfile.TemporaryDirectory() as folder:
        measure("random pair", *random_pair(Path(folder)), arguments)


def measure(name: str, instruct: Path, thinking: Path, arguments: argparse.Namespace) -> None:
    engine = LocalEngine(instruct, thinking, by_row=True, device="cpu", threads=1)
    seconds: dict[str, list[float]] = {"kept": [], "whole": []}
    with Streams(engine) as kept, Streams(engine, prefix_bytes=0) as whole:
        contenders = {"kept": kept, "whole": whole}
        for number in range(arguments.rounds + 1):
            order = list(contenders)[:: 1 if number % 2 else -1]
            for contender in order:
                found = third_turn(contenders[contender], number, arguments.tokens)
                if number:  # the first round warms up
                    seconds[contender].append(found)
    ratios = [one / other for one, other in zip(seconds["whole"], seconds["kept"], strict=True)]
    medians = {contender: statistics.median(each) for contender, each in seconds.items()}
    print(
        f"{name}, {arguments.tokens + QUESTION} tokens: kept {medians['kept']:.3g} s, whole {medians['whole']:.3g} s, "
        f"whole / kept {statistics.median(ratios):.1f} ({min(ratios):.1f} to {max(ratios):.1f}) in {len(ratios)} rounds"
    )


def third_turn(streams: Streams, number: int, tokens: int) -> float:
    """The processor's seconds to the first token of the third turn of conversation `number`."""
    generator = np.random.default_rng(number)
    prompt: tuple[int, ...] = ()
    seconds = 0.0
    for length in (tokens // 2, tokens // 2, QUESTION):
        prompt += tuple(generator.integers(5, 60, length).tolist())
        request = Request(id="turn", prompt_ids=prompt, seed=0, sampling=Sampling(temperature=0, max_tokens=4), lam=0.5)
        started = time.process_time()
        with closing(streams.tokens(request)) as events:  # type: ignore[type-var]
            next(events)
            seconds = time.process_time() - started
            for _ in events:
                pass
    return seconds


if __name__ == "__main__":
    main()
