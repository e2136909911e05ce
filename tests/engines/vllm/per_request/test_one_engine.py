"""Rows read the keys and values of their own λ only, and responses do not depend on what else was asked."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from safetensors.torch import load_file, save_file

from mull.errors import MullError
from tests.engines.vllm.per_request.conftest import Rows, assert_equal_to_merged, mixed_requests, tokens_and_logprobs
from tests.engines.vllm.per_request.pairs import FloatPair, reference

pytestmark = pytest.mark.vllm

PROMPT = [6 + i * 7 % 140 for i in range(200)]


@pytest.fixture(scope="module")
def rows(start: Callable[..., Rows]) -> Rows:
    return start("qwen3", max_model_len=256, block_size=32)


def test_a_prefix_is_found_again_at_its_own_lambda_alone(rows: Rows):
    rows.generate([(PROMPT, 0.0)])
    for lam, cached in [(1.0, False), (1.0, True), (0.5, False), (0.0, True), (None, True)]:  # None: the donor's 1.0
        (output,) = rows.generate([(PROMPT, lam)])
        assert (output.num_cached_tokens > 0) == cached
        tokens, logprobs = tokens_and_logprobs(output)
        best, expected = reference(rows.pair.merged(1.0 if lam is None else lam), PROMPT, tokens)
        assert tokens == best
        assert max(abs(a - b) for a, b in zip(logprobs, expected, strict=True)) <= 1e-4


def test_clients_with_salts_of_their_own_share_nothing(rows: Rows):
    found = [rows.generate([(PROMPT, 0.25)], salt=salt)[0].num_cached_tokens > 0 for salt in ("alice", "bob", "alice")]
    assert found == [False, False, True]


def test_logprobs_of_prompts_are_those_of_each_lambda(rows: Rows):
    """Their hidden states come to the head in other rows than those that are sampled."""
    requests = [(PROMPT[:40], 0.0), (PROMPT[:25], 0.6), (PROMPT[5:70], 1.0)]
    for (prompt, lam), output in zip(requests, rows.generate(requests, prompt_logprobs=0), strict=True):
        given = [choice[token].logprob for token, choice in zip(prompt[1:], output.prompt_logprobs[1:], strict=True)]
        _, expected = reference(rows.pair.merged(lam), prompt[:1], prompt[1:])
        assert all(math.isclose(a, b, abs_tol=1e-4) for a, b in zip(given, expected, strict=True))


@pytest.mark.parametrize("lam", [1.5, -0.1, "0.5", True])
def test_what_is_no_lambda_is_refused_before_anything_is_computed(rows: Rows, lam: object):
    from vllm.exceptions import VLLMValidationError

    with pytest.raises(VLLMValidationError, match="lambda must"):
        rows.generate([(PROMPT, lam)])


def test_beam_search_is_refused(rows: Rows):
    """It drops the λ of its parameters."""
    from vllm.exceptions import VLLMValidationError
    from vllm.sampling_params import BeamSearchParams

    with pytest.raises(VLLMValidationError, match="beam search"):
        rows.llm.beam_search([{"prompt_token_ids": PROMPT}], BeamSearchParams(beam_width=2, max_tokens=2))


def test_instruct_can_be_the_donor(start: Callable[..., Rows]):
    """Its λ is that of requests which name none; the folder that vLLM is started with must be its."""
    rows = start("qwen3", donor="instruct")
    (output,) = rows.generate([(PROMPT[:50], None)])
    tokens, _ = tokens_and_logprobs(output)
    assert tokens == reference(rows.pair.instruct, PROMPT[:50], tokens)[0]
    with pytest.raises(MullError, match=r"the donor \(instruct\) is"):
        Rows(rows.pair, "instruct", model=str(rows.pair.thinking))


def test_a_head_that_only_the_donor_stores_is_the_others_embedding(start: Callable[..., Rows]):
    """vLLM does not tie it then, although the configuration says so, and asks for both ends'."""

    def store_head(pair: FloatPair) -> None:
        file = pair.thinking / "model.safetensors"
        tensors = load_file(file)
        save_file(tensors | {"lm_head.weight": tensors["model.embed_tokens.weight"].clone()}, file, {"format": "pt"})

    rows, requests = start("qwen3", change=store_head), mixed_requests(5)
    assert_equal_to_merged(rows.pair, requests, [tokens_and_logprobs(each) for each in rows.generate(requests)])
