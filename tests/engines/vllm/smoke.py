"""vLLM in three minutes: greedy texts in place and per request beside the local engine's: `make smoke-vllm`.

5 prompts × 3 λ each way. Nearly equal probabilities may fall either way in another library: one text of 15 may differ.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator

from mull.engines.base import Completion, Request, Sampling
from mull.engines.local.engine import LocalEngine
from mull.merging.coefficients import Coefficients
from mull.tiny import checkpoint_folder
from tests.engines.vllm.in_place.apart import ENVIRONMENT

LAMS = (0.0, 0.5, 1.0)
FOLDERS = {side: checkpoint_folder(side) for side in ("instruct", "thinking")}
QUESTIONS = (
    "A two-digit counter shows 37. Press + 5, − 8. What does it show?",
    "Add up 3, 4, 8.",
    "What is 17 + 25?",
    "A two-digit counter shows 12. Press × 3, + 9. What does it show?",
    "Add up 12, 30, 7, 9.",
)
Generate = Callable[[Iterable[Request]], Iterator[Completion]]


def texts(generate: Generate, prompts: list[tuple[int, ...]], lam: float, *, by_row: bool) -> list[str]:
    sampling = Sampling(temperature=0, max_tokens=150)
    requests = [
        Request(id=str(i), prompt_ids=ids, seed=0, sampling=sampling, lam=lam if by_row else None)
        for i, ids in enumerate(prompts)
    ]
    found = {completion.id: completion.text for completion in generate(requests)}
    return [found[request.id] for request in requests]


def main() -> int:
    os.environ.update(ENVIRONMENT)
    from mull.engines.vllm.engine import VllmEngine

    failed = 0
    for by_row in (False, True):
        local = LocalEngine(FOLDERS["instruct"], FOLDERS["thinking"], by_row=by_row)
        prompts = [local.render([{"role": "user", "content": question}]) for question in QUESTIONS]
        vllm = VllmEngine(FOLDERS, by_row=by_row, batch_size=8, context=400, options={"enforce_eager": True})
        same = total = 0
        for lam in LAMS:
            if not by_row:
                for engine in (local, vllm):
                    engine.set_weights(Coefficients.scalar(lam))
            expected = texts(local.generate, prompts, lam, by_row=by_row)
            found = texts(vllm.generate, prompts, lam, by_row=by_row)
            same += sum(a == b for a, b in zip(expected, found, strict=True))
            total += len(found)
        vllm.close()
        way = "a λ per request" if by_row else "one λ at a time"
        print(f"vLLM, {way}: {same} of {total} texts are the local engine's", flush=True)
        failed += same < total - 1
    return failed


if __name__ == "__main__":
    sys.exit(main())
