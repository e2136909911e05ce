"""Engines of vLLM in this process, on pairs of `pairs.py`."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.engines.vllm.per_request.pairs import FloatPair, float_pair, reference

LAMBDAS = (0.0, 0.25, 0.6, 0.9, 1.0)
TOKENS = 24
ENVIRONMENT = {
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "OMP_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
    "VLLM_LOGGING_LEVEL": "WARNING",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "TOKENIZERS_PARALLELISM": "false",
}


class Rows:
    """An engine with a λ per request."""

    def __init__(self, pair: FloatPair, donor: str = "thinking", **options: Any) -> None:
        os.environ.update(ENVIRONMENT | os.environ)
        from vllm import LLM

        self.pair = pair
        # Few tokens a step: prompts are read in parts, beside rows that decode.
        sizes = {"max_model_len": 128, "max_num_seqs": 8, "max_num_batched_tokens": 48}
        self.llm = LLM(**pair.options(donor) | {"dtype": "float32", "enforce_eager": True} | sizes | options)

    def generate(self, requests: list[tuple[list[int], Any]], salt: str | None = None, **sampling: Any) -> list[Any]:
        """The outputs of requests, each a prompt's tokens with its λ (None: no λ named)."""
        from vllm import SamplingParams

        chosen = {"temperature": 0.0, "max_tokens": TOKENS, "ignore_eos": True, "logprobs": 0, "detokenize": False}
        params = [
            SamplingParams(**chosen | sampling, extra_args=None if lam is None else {"lambda": lam})
            for _, lam in requests
        ]
        prompts = [{"prompt_token_ids": ids} | ({"cache_salt": salt} if salt else {}) for ids, _ in requests]
        return self.llm.generate(prompts, params, use_tqdm=False)


def mixed_requests(count: int = 20) -> list[tuple[list[int], float]]:
    """Prompts of very different lengths, each with one of LAMBDAS."""
    lots = random.Random(0)
    return [
        ([lots.randrange(6, 150) for _ in range(lots.choice((3, 9, 30, 60)))], LAMBDAS[i % 5]) for i in range(count)
    ]


def tokens_and_logprobs(output: Any) -> tuple[list[int], list[float]]:
    tokens = list(output.outputs[0].token_ids)
    return tokens, [choice[token].logprob for token, choice in zip(tokens, output.outputs[0].logprobs, strict=True)]


def assert_equal_to_merged(
    pair: FloatPair, requests: list[tuple[list[int], float]], responses: list[tuple[list[int], list[float]]]
) -> None:
    """Every response is the one that transformers gives from the merged checkpoint of its λ."""
    wrong, largest = [], 0.0
    for (prompt, lam), (tokens, logprobs) in zip(requests, responses, strict=True):
        best, expected = reference(pair.merged(lam), prompt, tokens)
        largest = max([largest, *(abs(a - b) for a, b in zip(logprobs, expected, strict=True))])
        if tokens != best:
            wrong.append(lam)
    assert wrong == []
    assert largest <= 1e-4


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Rows]]:
    """Starts engines on pairs of a kind; all end with the module. `instruct`: what differs in that side's config;
    `change`: what is done to the pair before."""
    started: list[Rows] = []

    def start(
        kind: str,
        instruct: dict[str, Any] | None = None,
        change: Callable[[FloatPair], None] = lambda pair: None,
        **options: Any,
    ) -> Rows:
        pair = float_pair(tmp_path_factory.mktemp(kind), kind, **instruct or {})
        change(pair)
        started.append(Rows(pair, **options))
        return started[-1]

    yield start
    for rows in started:
        rows.llm.llm_engine.engine_core.shutdown()
