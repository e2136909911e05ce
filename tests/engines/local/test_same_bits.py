"""Which numbers of rows keep a row's bits: found for kernels made to differ, and true for the real ones."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from mull.engines.local.same_bits import row_step


def model(dtype: torch.dtype = torch.float32) -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(96, 256, bias=False), torch.nn.Linear(256, 96)).to(dtype)


def product(*bad_counts: int, bad_places: int = 0):
    """A product whose bits differ for these numbers of rows, or in as many rows at the end of any."""

    def linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        result = F.linear(x.double(), weight.double(), None if bias is None else bias.double()).float()
        if len(x) in bad_counts:
            result[:, 0] = torch.nextafter(result[:, 0], torch.tensor(torch.inf))
        if bad_places:
            result[-bad_places:] *= 1.0001
        return result

    return linear


@pytest.mark.parametrize(
    ("linear", "step"),
    [
        (product(), 8),
        (product(8), 16),  # as with AMX in bfloat16: 8 rows against 24
        (product(24), 16),
        (product(8, 16), 32),
        (product(16, 32), 64),
        (product(64), None),
        (product(bad_places=3), None),
    ],
)
def test_the_least_step_that_keeps_bits(linear, step: int | None) -> None:
    assert row_step(model(), linear) == step


def test_one_layer_that_differs_is_enough() -> None:
    good, bad = product(), product(8)
    assert row_step(model(), lambda x, weight, bias: (good if bias is None else bad)(x, weight, bias)) == 16


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_is_found_holds_for_numbers_of_rows_that_were_not_tried(dtype: torch.dtype) -> None:
    layers = model(dtype)
    step = row_step(layers)
    if step is None:
        pytest.skip(f"no number of rows keeps bits in {dtype} on this processor")
    for layer in layers:
        x = torch.randn(40 * step, layer.in_features, generator=torch.Generator().manual_seed(1)).to(dtype)
        with torch.inference_mode():
            expected = layer(x)
            for count in (3, 5, 7, 9, 17, 33):
                assert torch.equal(layer(x[: count * step]), expected[: count * step])
