"""Sequences of mixed λ in one batch equal those of merged checkpoints, for every family of models."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.engines.vllm.per_request.conftest import Rows, assert_equal_to_merged, mixed_requests

pytestmark = pytest.mark.vllm


@pytest.mark.parametrize("kind", ["qwen3", "qwen2", "llama", "gemma2", "gemma3", "olmo3"])
def test_twenty_sequences_equal_those_of_merged_checkpoints(start: Callable[..., Rows], kind: str):
    assert_equal_to_merged(start(kind), mixed_requests())
