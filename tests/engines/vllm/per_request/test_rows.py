"""The buffer of the rows' λ, and the arithmetic that reads it."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from mull.engines.vllm.per_request.rows import RowLambdas

LAMBDAS = np.array([0.0, 0.3, 1.0], np.float32)
COUNTS = np.array([2, 1, 3])  # tokens of each request


def rows(token_dim: int = 0) -> RowLambdas:
    made = RowLambdas(8, 1.0, "cpu")
    made.token_dim = token_dim
    made.set(LAMBDAS, COUNTS)
    return made


def test_every_token_has_the_lambda_of_its_request():
    assert torch.allclose(rows().buffer, torch.tensor([0, 0, 0.3, 1, 1, 1, 1, 1]))  # the last two as they were


def test_the_buffer_stays_where_it_is():
    made = rows()
    place = made.buffer.data_ptr()
    made.set(LAMBDAS[::-1].copy(), COUNTS)
    assert made.buffer.data_ptr() == place
    assert made.buffer[0] == 1


def test_one_product_is_the_mixed_layer_row_by_row():
    torch.manual_seed(0)
    instruct, thinking, x = torch.randn(5, 4), torch.randn(5, 4), torch.randn(6, 4)
    y = F.linear(rows().doubled(x), torch.cat([instruct, thinking], -1))
    for row, lam in enumerate(np.repeat(LAMBDAS, COUNTS).tolist()):
        expected = (lam * thinking.double() + (1 - lam) * instruct.double()) @ x[row].double()
        assert torch.allclose(y[row].double(), expected, atol=1e-6)


def test_the_ends_are_exact_in_bfloat16():
    x = torch.randn(6, 4).bfloat16()
    doubled = rows().doubled(x)
    assert torch.equal(doubled[0], torch.cat([x[0], torch.zeros(4).bfloat16()]))
    assert torch.equal(doubled[-1], torch.cat([torch.zeros(4).bfloat16(), x[-1]]))


def test_vectors_are_mixed_for_every_head_of_a_row():
    ends = torch.randn(4, 2)
    mixed = rows().mixed(ends, torch.zeros(6, 3, 4))
    assert mixed.shape == (6, 1, 4)
    assert torch.allclose(mixed[2, 0], 0.7 * ends[:, 0] + 0.3 * ends[:, 1])


def test_tokens_may_come_after_a_dimension_for_the_batch():
    made, x = rows(token_dim=1), torch.randn(6, 4)
    assert torch.equal(made.doubled(x[None])[0], made.doubled(x))  # transformers' code flattens it at times
