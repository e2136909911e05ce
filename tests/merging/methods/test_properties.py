"""What must hold of any models, whatever the method computes in between."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor

from mull.errors import MullError
from mull.merging.methods import METHODS, make

ALL = sorted(METHODS)
SIZES = st.sampled_from([(), (0,), (1,), (9,), (130,), (3, 17), (16, 8), (2, 3, 5)])
KINDS = st.sampled_from([torch.bfloat16, torch.float16, torch.float32])
LAMBDAS = st.floats(0.01, 0.99)
SEEDS = st.integers(0, 1 << 20)


def draw(shape: tuple[int, ...], many: int, seed: int, kind: torch.dtype = torch.float64) -> list[Tensor]:
    """`many` fine-tunes and their base."""
    generator = torch.Generator().manual_seed(seed)
    base = torch.randn(shape, generator=generator)
    noise = [0.1 * torch.randn(shape, generator=generator) for _ in range(many)]
    return [*((base + part).to(kind) for part in noise), base.to(kind)]


def combine(name: str, models: list[Tensor], base: Tensor | None, at: float = 1.0, **parameters: Any) -> Tensor:
    method = make(name, parameters)
    return method.combine(models, None if method.base == "never" else base, at)


def close(left: Tensor, right: Tensor, size: float = 8.0) -> bool:
    """float64 results that differ by rounding of terms of at most `size` alone."""
    return bool((left - right).abs().le(size * 2.0**-46).all())


@pytest.mark.parametrize("name", [name for name in ALL if METHODS[name].coefficient == "lambda"])
@given(shape=SIZES, kind=KINDS, seed=SEEDS, end=st.integers(0, 1), broken=st.booleans())
def test_the_ends_are_copies(name: str, shape: tuple, kind: torch.dtype, seed: int, end: int, broken: bool) -> None:
    left, right, base = draw(shape, 2, seed, kind)
    if broken and left.numel():
        for side in (left, right):
            side.view(-1)[0] = torch.nan
            side.view(-1)[-1] = -0.0
    got = make(name).combine([left, right], base if METHODS[name].base == "optional" else None, float(end))
    wanted = (left, right)[end]
    as_bits = torch.int32 if kind == torch.float32 else torch.int16
    assert torch.equal(got.reshape(-1).view(as_bits), wanted.reshape(-1).view(as_bits))
    assert got.data_ptr() != wanted.data_ptr() or not got.numel()


@pytest.mark.parametrize("name", ["mi", "slerp", "nuslerp"])
@given(shape=SIZES, seed=SEEDS, lam=LAMBDAS)
def test_swapping_the_sides_mirrors_lambda(name: str, shape: tuple, seed: int, lam: float) -> None:
    left, right, base = draw(shape, 2, seed)
    assert close(combine(name, [left, right], base, lam), combine(name, [right, left], base, 1 - lam))


@given(shape=SIZES, seed=SEEDS, lam=LAMBDAS, times=st.sampled_from([0.0, 1.0, 1e3, 1e6]))
def test_interpolation_is_task_arithmetic_with_any_base(shape: tuple, seed: int, lam: float, times: float) -> None:
    """But for the rounding of what cancels: a few units of float64 of the largest of base, models and differences."""
    left, right, base = draw(shape, 2, seed)
    base = base * times
    mixed = combine("mi", [left, right], None, lam)
    assert close(combine("ta", [left, right], base, 1.0, weights=(1 - lam, lam)), mixed, size=8 + 8 * times)
    assert close(combine("mi", [left, right], None, 1.0, weights=(1 - lam, lam)), mixed)


@pytest.mark.parametrize("many", [2, 3])
@given(shape=SIZES, seed=SEEDS, alpha=st.floats(-2, 2))
def test_nothing_dropped_is_task_arithmetic_or_the_elected_mean(
    many: int, shape: tuple, seed: int, alpha: float
) -> None:
    *models, base = draw(shape, many, seed)
    arithmetic = combine("ta", models, base, alpha)
    assert torch.equal(combine("dare", models, base, alpha, density=1.0), arithmetic)
    assert torch.equal(combine("breadcrumbs", models, base, alpha, density=1.0, gamma=0.0), arithmetic)
    deltas = torch.stack([model - base for model in models])
    sign = torch.where(deltas.sum(0) >= 0, 1.0, -1.0)
    agree = deltas * sign > 0
    total = (deltas * agree).sum(0)
    mean = base + alpha * total / agree.sum(0).clamp(min=1)
    assert close(combine("ties", models, base, alpha, density=1.0), mean)
    assert close(combine("della", models, base, alpha, density=1.0, epsilon=0.0), mean)
    assert close(combine("dare_ties", models, base, alpha, density=1.0, normalize=True), mean)
    for name, options in (("dare_ties", {}), ("ties", {"normalize": False})):
        assert close(combine(name, models, base, alpha, density=1.0, **options), base + alpha * total)


@pytest.mark.parametrize("name", ["slerp", "nuslerp"])
@given(shape=SIZES, seed=SEEDS, lam=LAMBDAS, times=st.floats(0.1, 10), above=st.sampled_from([0.9995, 1.0]))
def test_parallel_vectors_are_mixed_on_the_line(
    name: str, shape: tuple, seed: int, lam: float, times: float, above: float
) -> None:
    (vector,) = draw(shape, 0, seed)
    got = make(name, {"linear_above": above}).combine([vector, times * vector], None, lam)
    assert close(got, ((1 - lam) + lam * times) * vector, size=100)


@pytest.mark.parametrize("name", ALL)
@given(shape=SIZES, seed=SEEDS, power=st.integers(-60, 40), kind=st.sampled_from([torch.bfloat16, torch.float32]))
def test_powers_of_two_go_through(name: str, shape: tuple, seed: int, power: int, kind: torch.dtype) -> None:
    *models, base = draw(shape, 2, seed, kind)
    at = 0.37 if METHODS[name].coefficient else 1.0
    plain = combine(name, models, base, at)
    scaled = combine(name, [model * 2.0**power for model in models], base * 2.0**power, at)
    assume(not ((plain != 0) & (plain.abs() < 2.0**-60)).any())
    assert torch.equal(scaled, plain * 2.0**power)


@pytest.mark.parametrize("name", ["karcher", "model_stock", "sce", "ties", "ta", "breadcrumbs"])
@given(shape=SIZES, seed=SEEDS, order=st.permutations(range(3)))
def test_the_order_of_the_models_does_not_matter(name: str, shape: tuple, seed: int, order: list[int]) -> None:
    *models, base = draw(shape, 3, seed)
    assert close(combine(name, models, base), combine(name, [models[i] for i in order], base))


@given(shape=SIZES, seed=SEEDS, order=st.permutations(range(3)), weights=st.tuples(*[st.floats(0.1, 2)] * 3))
def test_weights_go_with_their_models(shape: tuple, seed: int, order: list[int], weights: tuple) -> None:
    *models, base = draw(shape, 3, seed)
    for name in ("ta", "ties", "breadcrumbs", "karcher"):
        moved = combine(name, [models[i] for i in order], base, weights=[weights[i] for i in order])
        assert close(combine(name, models, base, weights=weights), moved, size=50)


@given(shape=SIZES, seed=SEEDS)
def test_karcher_of_two_unit_vectors_is_slerp_half_way(shape: tuple, seed: int) -> None:
    left, right, _ = draw(shape, 2, seed)
    assume(left.norm() > 1e-3 and right.norm() > 1e-3)
    left, right = left / left.norm(), right / right.norm()
    half = make("slerp", {"linear_above": 1.0}).combine([left, right], None, 0.5)
    assert close(combine("karcher", [left, right], None), half)


@given(shape=SIZES, seed=SEEDS, weights=st.tuples(*[st.floats(0.05, 2)] * 3))
def test_the_karcher_mean_keeps_the_mean_length_and_has_no_pull_left(shape: tuple, seed: int, weights: tuple) -> None:
    *models, _ = draw(shape, 3, seed)
    mean = combine("karcher", models, None, weights=weights).reshape(-1)
    vectors = [model.reshape(-1) for model in models]
    units = [vector / vector.norm() for vector in vectors]
    assume(mean.numel() > 1 and min(units[0] @ unit for unit in units) > 0)
    length = sum(weight * vector.norm() for weight, vector in zip(weights, vectors, strict=True)) / sum(weights)
    assert close(mean.norm(), length)
    pull = torch.zeros_like(mean)
    for weight, unit in zip(weights, units, strict=True):
        cosine = unit @ mean / mean.norm()
        across = unit - cosine * mean / mean.norm()
        pull += weight * torch.acos(cosine.clamp(-1, 1)) * across / across.norm().clamp(min=1e-300)
    assert pull.norm() < 1e-12 * sum(weights)


@given(shape=SIZES, seed=SEEDS, many=st.integers(2, 4))
def test_model_stock_lies_between_the_base_and_the_mean(shape: tuple, seed: int, many: int) -> None:
    *models, base = draw(shape, many, seed)
    mean = torch.stack(models).mean(0)
    got = combine("model_stock", models, base)
    ratio = ((got - base) * (mean - base)).sum() / (mean - base).square().sum().clamp(min=1e-300)
    assert -1e-9 <= ratio <= 1 + 1e-9
    assert close(got, base + ratio * (mean - base))


def test_model_stock_at_its_bounds() -> None:
    base = torch.zeros(2, dtype=torch.float64)
    across, along, back = (
        [torch.tensor([1.0, 0.0]).double(), torch.tensor(v).double()] for v in ([0.0, 1], [1.0, 0], [-1.0, 0])
    )
    assert torch.equal(combine("model_stock", across, base), base)
    assert close(combine("model_stock", along, base), along[0])
    assert torch.equal(combine("model_stock", back, base), base)


@pytest.mark.parametrize("name", ALL)
def test_models_that_agree_are_left_alone(name: str) -> None:
    """All methods are means of some kind where nothing is dropped, if sums are made means."""
    parameters = {
        "ta": {"weights": (0.5, 0.5)}, "dare": {"density": 1.0, "normalize": True}, "sce": {"density": 1.0},
        "dare_ties": {"density": 1.0, "normalize": True}, "della": {"density": 1.0, "epsilon": 0.0},
        "ties": {"density": 1.0}, "breadcrumbs": {"density": 1.0, "gamma": 0.0, "weights": (0.5, 0.5)},
        "della_linear": {"density": 1.0, "epsilon": 0.0, "normalize": True},
    }.get(name, {})  # fmt: skip
    model, base = draw((40, 30), 1, 0, torch.float32)
    assert torch.equal(combine(name, [model, model.clone()], base, 1.0 if name != "mi" else 0.3, **parameters), model)


@pytest.mark.parametrize("name", ["ties", "breadcrumbs"])
@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float32])
def test_a_threshold_among_elements_that_are_no_numbers_is_refused(name: str, kind: torch.dtype) -> None:
    model, base = torch.full((100,), torch.nan).to(kind), torch.zeros(100).to(kind)
    with pytest.raises(MullError, match="NaN"):
        combine(name, [model, model], base)


def test_more_models_than_the_kernels_have_room_for() -> None:
    models = [torch.full((5,), float(i)).bfloat16() for i in range(20)]
    assert combine("ta", models, torch.zeros(5).bfloat16()).tolist() == [190.0] * 5


def test_karcher_without_a_direction() -> None:
    vector = torch.arange(6.0)
    assert torch.equal(combine("karcher", [vector, -3 * vector], None), -vector)  # opposite: the mean
    assert torch.equal(combine("karcher", [torch.zeros(6), vector], None), vector / 2)
    assert torch.equal(combine("karcher", [torch.zeros(6), vector], None, weights=(1, 0)), torch.zeros(6))


def test_weights_that_nothing_can_be_divided_by_are_refused() -> None:
    with pytest.raises(MullError, match="sum to 0"):
        make("dare", {"weights": (1, -1), "normalize": True})
    assert make("mi", {"weights": (0, 1.0000001)}).copied_model(1.0) is None
    assert make("mi", {"weights": (0, 1)}).copied_model(1.0) == 1


@given(shape=SIZES, seed=SEEDS, lam=LAMBDAS)
def test_the_result_has_the_first_models_dtype_and_shape(shape: tuple, seed: int, lam: float) -> None:
    left, right, base = draw(shape, 2, seed)
    for name in ALL:
        got = combine(name, [left.bfloat16(), right.half()], base.float(), lam)
        assert (got.dtype, got.shape, bool(got.isfinite().all())) == (torch.bfloat16, torch.Size(shape), True)


def test_models_that_a_method_does_not_take_are_refused() -> None:
    one = torch.zeros(3)
    for name, models, base in (("slerp", 3, False), ("slerp", 2, True), ("ta", 2, False), ("karcher", 1, False)):
        with pytest.raises(MullError):
            make(name).combine([one] * models, one if base else None, 0.5)
    with pytest.raises(MullError, match="3 weights for 2 models"):
        make("ties", {"weights": (1, 1, 1)}).combine([one] * 2, one)
    with pytest.raises(MullError, match="3 density values for 2 models"):
        make("ties", {"density": "0.1,0.2,0.3"}).combine([one] * 2, one)


@pytest.mark.parametrize("name", ["ties", "dare", "dare_ties", "breadcrumbs", "della", "della_linear"])
def test_one_density_for_each_model_is_the_density_of_all_where_they_are_equal(name: str) -> None:
    models = [torch.randn(8, 40, generator=torch.Generator().manual_seed(i)).bfloat16() for i in range(3)]
    one, each = (make(name, {"density": density}).combine(models[:2], models[2]) for density in ("0.5", "0.5,0.5"))
    assert torch.equal(one, each)
    assert not torch.equal(one, make(name, {"density": "0.5,0.7"}).combine(models[:2], models[2]))


@pytest.mark.parametrize("name", sorted(METHODS))
def test_strided_and_expanded_tensors_are_taken_as_they_are(name: str) -> None:
    method = make(name)
    wide = [torch.randn(6, 40, generator=torch.Generator().manual_seed(i)).bfloat16() for i in range(3)]
    strided = [tensor[:, ::2] for tensor in wide]
    expanded = [tensor[:1].expand(6, 40) for tensor in wide]
    at = 0.4 if method.takes == "lambda" else None
    for tensors in (strided, expanded):
        base = tensors[2] if method.base == "required" else None
        plain = [tensor.contiguous() for tensor in tensors]
        wanted = method.combine(plain[:2], None if base is None else plain[2], at)
        assert torch.equal(method.combine(list(tensors[:2]), base, at), wanted)


@pytest.mark.parametrize(("name", "parameter"), [("ties", "trim"), ("nuslerp", "per")])
def test_a_word_that_is_none_of_the_choices_is_refused_from_python_too(name: str, parameter: str) -> None:
    with pytest.raises(MullError, match=f"{parameter} cannot be 'zzz'.* It is one of"):
        METHODS[name](**{parameter: "zzz"})
