"""DARE's and DELLA's random masks: how many, how independent, of what they depend on."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mull.merging.arithmetic.random_numbers import key_of, random_numbers, threshold
from mull.merging.arithmetic.source import InMemory
from mull.merging.methods import make

COUNT = 1 << 16
SIGMAS = 5.0


def kept(name: str = "x", model: int = 0, many: int = 2, count: int = COUNT, **parameters: Any) -> Tensor:
    """The mask of one model of a tensor, read off its change of 1 alone."""
    models = [torch.full((count,), float(place == model)) for place in range(many)]
    source = InMemory(name, models, torch.zeros(count))
    out = torch.empty(count)
    make("dare", parameters).operation(source, 1.0, None).apply(models, source.base, out, 0)
    return out != 0


def correlation(left: Tensor, right: Tensor) -> float:
    return float(np.corrcoef(left.double().numpy(), right.double().numpy())[0, 1])


@pytest.mark.parametrize("density", [0.001, 0.1, 0.5, 0.9, 0.999])
def test_as_many_are_kept_as_the_density_says(density: float) -> None:
    for name in ("a", "b"):
        share = kept(name, density=density).double().mean().item()
        assert abs(share - density) < SIGMAS * (density * (1 - density) / COUNT) ** 0.5


def test_all_or_hardly_any() -> None:
    assert kept(density=1.0).all()
    assert kept(density=1e-12).sum() <= 1
    assert (threshold(1.0), threshold(1e-12), threshold(1 - 1e-12), threshold(0.5)) == (0, 1, 2**32 - 1, 2**31)


def test_masks_of_models_tensors_and_seeds_are_independent() -> None:
    masks = [
        kept(name, model, many=3, density=0.5, seed=seed) for name in "ab" for model in range(3) for seed in (0, 1)
    ]
    for left, right in itertools.combinations(masks, 2):
        assert abs(correlation(left, right)) < SIGMAS / COUNT**0.5


@pytest.mark.parametrize("shift", [1, 2, 3, 4, 5, 8, 64, 256, 1024, 1 << 15])
def test_elements_are_independent_of_their_neighbours(shift: int) -> None:
    mask = kept(density=0.5)
    assert abs(correlation(mask[shift:], mask[:-shift])) < SIGMAS / (COUNT - shift) ** 0.5


def test_runs_are_as_long_as_chance_makes_them() -> None:
    edges = (kept(density=0.5)[1:] != kept(density=0.5)[:-1]).double().mean()
    assert abs(edges - 0.5) < SIGMAS * 0.5 / COUNT**0.5


def test_numbers_are_uniform() -> None:
    numbers = random_numbers(key_of(3, "x"), 1, 0, COUNT)
    for bit in range(32):
        assert abs((numbers >> np.uint32(bit) & 1).mean() - 0.5) < SIGMAS * 0.5 / COUNT**0.5, bit
    cells = np.bincount(numbers >> 24, minlength=256)
    assert ((cells - COUNT / 256) ** 2 / (COUNT / 256)).sum() < 255 + SIGMAS * (2 * 255) ** 0.5


@pytest.mark.parametrize("first", [0, 3, 4, 1021, 1 << 33, (1 << 34) - 2])
def test_any_range_of_a_stream_is_the_same_numbers(first: int) -> None:
    """Also beyond 2^32 elements, and where the counter's lower word is full."""
    whole = random_numbers(5, 2, first, 50)
    for offset, count in ((0, 1), (1, 7), (13, 20), (49, 1)):
        assert (random_numbers(5, 2, first + offset, count) == whole[offset : offset + count]).all()
    assert len(set(whole.tolist())) == 50


def test_the_mask_depends_on_nothing_but_seed_name_place_and_index() -> None:
    mask = kept(density=0.3)
    assert torch.equal(kept(density=0.3, many=5), mask)
    assert torch.equal(kept(density=0.3, count=1000), mask[:1000])
    assert not torch.equal(kept(density=0.3, seed=1), mask)
    assert (kept(density=0.6) | ~mask).all()  # a larger share keeps all that a smaller one does
    wild = [torch.randn(1000) + 5, torch.zeros(1000)]
    out = torch.empty(1000)
    make("dare", {"density": 0.3}).operation(InMemory("x", wild, torch.zeros(1000)), 1.0, None).apply(
        wild, torch.zeros(1000), out, 0
    )
    assert torch.equal(out != 0, mask[:1000])


@pytest.mark.parametrize(("method", "parameters"), [("dare", {"density": 0.3}), ("dare", {"density": 0.05})])
def test_on_average_nothing_is_lost(method: str, parameters: dict) -> None:
    """The expectation of DARE's result is that of task arithmetic, element by element, over seeds."""
    generator = torch.Generator().manual_seed(0)
    *models, base = (torch.randn(500, generator=generator).double() for _ in range(3))
    wanted = make("ta").combine(models, base, 0.7)
    runs = torch.stack([make(method, {**parameters, "seed": seed}).combine(models, base, 0.7) for seed in range(400)])
    density = parameters["density"]
    spread = 0.7 * (sum((m - base).square() for m in models) * (1 - density) / density / len(runs)).sqrt()
    errors = (runs.mean(0) - wanted) / spread
    assert errors.abs().max() < SIGMAS
    assert abs(errors.mean()) < SIGMAS / 500**0.5
    assert 0.8 < errors.std() < 1.2


def test_della_loses_nothing_on_average_either() -> None:
    """One model beside one that agrees and weighs nothing, so that no election drops anything."""
    generator = torch.Generator().manual_seed(1)
    base, change = torch.zeros(6, 40).double(), torch.randn(6, 40, generator=generator).double()
    options = {"density": 0.5, "epsilon": 0.6, "normalize": False, "weights": (1, 0)}
    runs = torch.stack(
        [make("della", {**options, "seed": seed}).combine([change, change], base) for seed in range(1500)]
    )
    rank = change.abs().argsort(dim=1).argsort(dim=1)
    share = 0.5 + 0.6 * ((rank + 0.5) / 40 - 0.5)
    counted = (runs != 0).double().mean(0)
    assert ((counted - share).abs() / (share * (1 - share) / 1500).sqrt()).max() < SIGMAS
    assert ((runs.mean(0) - change).abs() / (change.abs() * ((1 - share) / share / 1500).sqrt())).max() < SIGMAS
