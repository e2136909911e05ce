"""Sequences of mixed λ in one batch equal those of merged checkpoints, float32.

The merged side is transformers': another implementation of the model as well as other weights. It reads each response
once and says what it would have chosen at every place.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.engines.vllm.per_request.apart import generate_apart
from tests.engines.vllm.per_request.conftest import Rows, assert_equal_to_merged, mixed_requests, tokens_and_logprobs
from tests.engines.vllm.per_request.pairs import float_pair

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(1800)]


@pytest.mark.parametrize("kind", ["qwen3", "qwen2", "llama", "gemma2", "gemma3", "qwen2_moe"])
def test_every_family(start: Callable[..., Rows], kind: str):
    fewer_rows = {"vocab_size": 140} if kind == "qwen3" else {}  # the donor's padding of the vocabulary is longer
    rows, requests = start(kind, fewer_rows), mixed_requests()
    assert_equal_to_merged(rows.pair, requests, [tokens_and_logprobs(each) for each in rows.generate(requests)])


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("qwen3_moe", {}),  # needs groups of processes that engines of dense models do not make
        ("olmo3", {}),  # vLLM runs transformers' code, whose activations have a dimension for the batch
        ("olmo3", {"enforce_eager": False}),
        ("qwen3_moe", {"enforce_eager": False}),
        ("qwen2", {"tensor_parallel_size": 2}),
        ("olmo3", {"tensor_parallel_size": 2}),  # its norms gather the parts of their input
        ("qwen3_moe", {"tensor_parallel_size": 2}),
        ("qwen3", {"v2": True, "tokens": 8}),
        ("olmo3", {"v2": True, "tokens": 8}),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(value) or "eager",
)
def test_every_way_to_run(tmp_path: Path, kind: str, options: dict[str, Any]):
    pair, requests = float_pair(tmp_path, kind), mixed_requests()
    assert_equal_to_merged(pair, requests, generate_apart(pair, requests, **options))


def test_compiled_code_and_what_is_cached_of_it(tmp_path: Path):
    """A second start takes compiled code from the cache; it must read the λ of its own batch, too."""
    pair, requests = float_pair(tmp_path, "qwen2"), mixed_requests()
    for _ in range(2):
        assert_equal_to_merged(pair, requests, generate_apart(pair, requests, enforce_eager=False))
    assert list((tmp_path / "cache").rglob("torch_aot_compile/*/rank_*/model"))
