"""Every method written a second time, in plain numpy float64, from the definitions alone.

The references hold whole tensors and take the roundabout way: sorted copies, full unit vectors, one row after another.
Nothing of mull is used in them. A method's result must be the reference's, rounded.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from mull.merging.arithmetic import compiled
from mull.merging.methods import METHODS, make

Array = NDArray[np.float64]
Reference = Callable[..., Array]
KERNEL = compiled.kernels
NAME = "tensor"
"""What a tensor in memory is called, which DARE's and DELLA's random numbers depend on."""
SHAPES = [(), (1,), (0,), (0, 3), (3, 0), (7,), (1031,), (33, 65), (5, 7, 11), (1, 517), (517, 1), (201, 157)]
ODD = 0.7390851332151607
"""No short decimal: with those some exact results lie half-way, where float64's own error decides."""


@cache
def words(key: int, stream: int, count: int) -> NDArray[np.uint32]:
    """Random123's philox4x32-10 for the counters (n, 0, stream, 0), in whole Python numbers."""
    numbers = []
    for n in range(-(-count // 4)):
        numbers += philox([n & 0xFFFFFFFF, n >> 32, stream, 0], [key & 0xFFFFFFFF, key >> 32])
    return np.array(numbers[:count], np.uint32)


def philox(counter: list[int], key: list[int]) -> list[int]:
    c, k = list(counter), list(key)
    for _ in range(10):
        left, right = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [right >> 32 ^ c[1] ^ k[0], right & 0xFFFFFFFF, left >> 32 ^ c[3] ^ k[1], left & 0xFFFFFFFF]
        k = [(k[0] + 0x9E3779B9) % 2**32, (k[1] + 0xBB67AE85) % 2**32]
    return c


def uniform(seed: int, place: int, count: int) -> Array:
    """In [0, 1), one for each element; a tensor's key is the first 8 bytes of BLAKE2b of "seed/name"."""
    key = int.from_bytes(hashlib.blake2b(f"{seed}/{NAME}".encode(), digest_size=8).digest(), "little")
    return words(key, place, count) / 2.0**32


def mi(models: list[Array], base: None, lam: float, weights: Any = None) -> Array:
    return sum((w * m for w, m in zip(weights or (1 - lam, lam), models, strict=True)), np.zeros_like(models[0]))


def ta(models: list[Array], base: Array, alpha: float, weights: Any = None) -> Array:
    return base + alpha * sum(w * (m - base) for w, m in zip(weights or [1] * len(models), models, strict=True))


def per_model(value: Any, models: list[Array]) -> list[float]:
    return list(value) if isinstance(value, tuple) else [value] * len(models)


def size(delta: Array) -> NDArray[np.float32]:
    return np.abs(delta).astype(np.float32)  # what is documented: sizes are compared in float32


def elected(kept: list[Array], weights: Any, normalize: bool) -> Array:
    """Per element the mean, or sum, of those that have the sign of the weighted sum."""
    weighted = np.stack([w * k for w, k in zip(weights, kept, strict=True)])
    positive = weighted.sum(axis=0) >= 0
    agree = np.where(positive, weighted > 0, weighted < 0)
    total = np.where(agree, weighted, 0).sum(axis=0)
    weight = (agree * np.reshape(weights, (-1,) + (1,) * kept[0].ndim)).sum(axis=0)
    return np.divide(total, weight, out=np.zeros_like(total), where=weight != 0) if normalize else total


def ties(
    models: list[Array], base: Array, alpha: float, density: float = 0.2, weights: Any = None, normalize: bool = True,
    trim: str = "tensor",
) -> Array:  # fmt: skip
    kept = []
    for delta, share in zip((model - base for model in models), per_model(density, models), strict=True):
        if delta.size:
            least = np.sort(size(delta).ravel())[::-1][max(int(share * delta.size + 1e-9), 1) - 1]
            delta = np.where(size(delta) >= least, delta, 0)
        kept.append(delta)
    return base + alpha * elected(kept, weights or [1] * len(models), normalize)


def breadcrumbs(
    models: list[Array], base: Array, alpha: float, density: float = 0.14, gamma: float = 0.01, weights: Any = None
) -> Array:
    total = np.zeros_like(base)
    shares = per_model(density, models), per_model(gamma, models)
    for weight, model, kept, cut in zip(weights or [1] * len(models), models, *shares, strict=True):
        delta = model - base
        if delta.size:
            order = np.sort(size(delta).ravel())[::-1]
            outliers, keep = int(cut * delta.size + 1e-9), max(int(kept * delta.size + 1e-9), 1)
            most, least = order[outliers], order[min(outliers + keep, delta.size) - 1]
            delta = np.where((size(delta) <= most) & (size(delta) >= least), delta, 0)
        total += weight * delta
    return base + alpha * total


def dropped(models: list[Array], base: Array, density: Any, seed: int) -> list[Array]:
    kept = []
    for place, (model, share) in enumerate(zip(models, per_model(density, models), strict=True)):
        keep = uniform(seed, place, model.size).reshape(model.shape) < round(share * 2**32) / 2**32
        kept.append(np.where(keep, model - base, 0) / share)
    return kept


def dare(
    models: list[Array], base: Array, alpha: float, density: float = 0.1, seed: int = 0, normalize: bool = False,
    weights: Any = None,
) -> Array:  # fmt: skip
    weights = weights or [1] * len(models)
    total = sum(w * kept for w, kept in zip(weights, dropped(models, base, density, seed), strict=True))
    return base + alpha * (total / sum(weights) if normalize else total)


def dare_ties(
    models: list[Array], base: Array, alpha: float, density: float = 0.1, seed: int = 0, normalize: bool = False,
    weights: Any = None,
) -> Array:  # fmt: skip
    return base + alpha * elected(dropped(models, base, density, seed), weights or [1] * len(models), normalize)


def della(
    models: list[Array], base: Array, alpha: float, density: float = 0.5, epsilon: float = 0.2, seed: int = 0,
    normalize: bool = True, weights: Any = None,
) -> Array:  # fmt: skip
    weights = weights or [1] * len(models)
    return base + alpha * elected(pruned(models, base, density, epsilon, seed), weights, normalize)


def della_linear(
    models: list[Array], base: Array, alpha: float, density: float = 0.5, epsilon: float = 0.2, seed: int = 0,
    normalize: bool = False, weights: Any = None,
) -> Array:  # fmt: skip
    weights = weights or [1] * len(models)
    kept = pruned(models, base, density, epsilon, seed)
    total = sum((w * k for w, k in zip(weights, kept, strict=True)), np.zeros_like(base))
    return base + alpha * (total / sum(weights) if normalize else total)


def pruned(models: list[Array], base: Array, density: Any, epsilon: Any, seed: int) -> list[Array]:
    if not base.size:
        return [model - base for model in models]
    kept, shares = [], list(zip(per_model(density, models), per_model(epsilon, models), strict=True))
    for place, model in enumerate(models):
        rows = (model - base).reshape(-1, model.shape[-1]) if model.ndim > 1 else (model - base).reshape(1, -1)
        numbers = uniform(seed, place, model.size).reshape(rows.shape)
        for row, own in zip(rows, numbers, strict=True):
            for rank, i in enumerate(sorted(range(len(row)), key=lambda i, row=row: size(row[i]))):
                stays = shares[place][0] + shares[place][1] * ((rank + 0.5) / len(row) - 0.5)
                row[i] = row[i] / stays if own[i] < stays else 0.0
        kept.append(rows.reshape(model.shape))
    return kept


def along_arc(left: Array, right: Array, lam: float, linear_above: float) -> Array:
    """The point at λ on the arc from one vector to the other, the angle found without an arc cosine."""
    lengths = np.linalg.norm(left), np.linalg.norm(right)
    if not all(lengths):
        return (1 - lam) * left + lam * right
    u, v = left / lengths[0], right / lengths[1]
    angle = 2 * np.arctan2(np.linalg.norm(u - v), np.linalg.norm(u + v))
    if abs(np.cos(angle)) > linear_above or np.sin(angle) < 1e-7:  # parallel: the arc is the chord, or there are many
        return (1 - lam) * left + lam * right
    return (np.sin((1 - lam) * angle) * left + np.sin(lam * angle) * right) / np.sin(angle)


def slerp(models: list[Array], base: None, lam: float, linear_above: float = 0.9995) -> Array:
    return along_arc(models[0].ravel(), models[1].ravel(), lam, linear_above).reshape(models[0].shape)


def nuslerp(models: list[Array], base: Array | None, lam: float, per: str = "row", linear_above: float = 1.0) -> Array:
    origin = np.zeros_like(models[0]) if base is None else base
    left, right = (m - origin for m in models)
    if per == "tensor" or left.ndim < 2:
        return origin + along_arc(left.ravel(), right.ravel(), lam, linear_above).reshape(left.shape)
    out = np.zeros_like(left)
    for place in np.ndindex(left.shape[:-1]):
        out[place] = along_arc(left[place], right[place], lam, linear_above)
    return origin + out


def karcher(models: list[Array], base: None, _: float, weights: Any = None) -> Array:
    """Along the tangents at the mean, of whole unit vectors, until they cancel out."""
    weights = np.array(weights or [1] * len(models), float)
    weights /= weights.sum()
    lengths = np.array([np.linalg.norm(m) for m in models])
    has = [i for i in range(len(models)) if lengths[i] and weights[i]]
    if not has:
        return np.zeros_like(models[0])
    units, shares = [models[i] / lengths[i] for i in has], [weights[i] / weights[has].sum() for i in has]
    mean = sum(share * unit for share, unit in zip(shares, units, strict=True))
    if np.linalg.norm(mean) < 1e-6:
        return sum(w * m for w, m in zip(weights, models, strict=True))
    mean = mean / np.linalg.norm(mean)
    for _step in range(300):
        tangent = np.zeros_like(mean)
        for share, unit in zip(shares, units, strict=True):
            across = unit - (unit * mean).sum() * mean
            if np.linalg.norm(across) > (1e-6 if (unit * mean).sum() < 0 else 0):  # opposite: no direction
                angle = 2 * np.arctan2(np.linalg.norm(unit - mean), np.linalg.norm(unit + mean))
                tangent += share * angle * across / np.linalg.norm(across)
        length = np.linalg.norm(tangent)
        if length < 1e-15:
            break
        mean = np.cos(length) * mean + np.sin(length) * tangent / length
        mean /= np.linalg.norm(mean)
    return (weights @ lengths) * mean


def model_stock(models: list[Array], base: Array, _: float) -> Array:
    deltas = [(m - base).ravel() for m in models]
    many, cosines = len(models), []
    for i in range(many):
        for j in range(i):
            lengths = np.linalg.norm(deltas[i]) * np.linalg.norm(deltas[j])
            cosines.append(deltas[i] @ deltas[j] / lengths if lengths else 0.0)
    cosine = np.mean(cosines)
    ratio = np.clip(many * cosine / (1 + (many - 1) * cosine), 0, 1) if cosine > 0 else 0.0
    return ratio * np.mean(models, axis=0) + (1 - ratio) * base


def sce(models: list[Array], base: Array, alpha: float, density: float = 0.1) -> Array:
    deltas = np.stack([m - base for m in models])
    if base.size:
        spread = np.sqrt(((deltas - deltas.mean(axis=0)) ** 2).mean(axis=0)).astype(np.float32)
        least = np.sort(spread.ravel())[::-1][max(int(density * base.size + 1e-9), 1) - 1]
        deltas = deltas * (spread >= least)
    squares = np.array([(delta**2).sum() for delta in deltas])
    shares = squares / squares.sum() if squares.any() else np.full(len(models), 1 / len(models))
    signs = np.where(deltas.sum(axis=0) >= 0, 1, -1)
    agree = np.sign(deltas) == signs
    shape = (-1,) + (1,) * base.ndim
    total, weight = ((x * agree).sum(axis=0) for x in (shares.reshape(shape) * deltas, shares.reshape(shape)))
    return base + alpha * np.divide(total, weight, out=np.zeros_like(total), where=weight != 0)


REFERENCES: dict[str, Reference] = {
    f.__name__: f
    for f in (
        mi, ta, ties, dare, dare_ties, slerp, nuslerp, karcher, model_stock, breadcrumbs, della, della_linear, sce,
    )
}  # fmt: skip
TWO, THREE = (0.6180339887, 0.4142135624), (0.3183098862, 0.4342944819, 0.2473956319)
CASES: list[tuple[str, dict[str, Any], int, float]] = [
    ("mi", {}, 2, ODD), ("mi", {}, 2, -0.2718281828), ("mi", {}, 2, 1.6180339887), ("mi", {"weights": THREE}, 3, 1.0),
    ("ta", {}, 2, ODD), ("ta", {"weights": TWO}, 2, 0.7),
    ("ta", {"weights": (0.3010299957, -0.6931471806, 1.0986122887)}, 3, 1.0),
    ("ties", {}, 2, ODD), ("ties", {"density": 0.5, "weights": THREE}, 3, ODD), ("ties", {"density": 1.0}, 3, ODD),
    ("ties", {"normalize": False, "trim": "model"}, 2, 0.5671432904),
    ("ties", {"density": 0.37, "weights": (1, -0.5772156649)}, 2, ODD),
    ("dare", {"density": 0.4}, 2, ODD), ("dare", {"density": 0.4, "seed": 5, "weights": THREE}, 3, ODD),
    ("dare", {"density": 0.9, "normalize": True}, 2, ODD), ("dare", {"density": 1.0}, 2, ODD),
    ("dare_ties", {"density": 0.6}, 2, ODD), ("dare_ties", {"density": 0.6, "normalize": True}, 3, ODD),
    ("slerp", {}, 2, ODD), ("slerp", {}, 2, 0.3183098862), ("slerp", {"linear_above": 1.0}, 2, ODD),
    ("slerp", {"linear_above": 0.001}, 2, ODD),
    ("nuslerp", {}, 2, ODD), ("nuslerp", {"linear_above": 0.05}, 2, 0.3183098862),
    ("nuslerp", {"per": "tensor"}, 2, ODD),
    ("nuslerp based", {}, 2, ODD), ("nuslerp based", {"per": "tensor"}, 2, 0.3183098862),
    ("karcher", {}, 2, 1.0), ("karcher", {}, 3, 1.0), ("karcher", {"weights": (0.5, 0, 0.25)}, 3, 1.0),
    ("model_stock", {}, 2, 1.0), ("model_stock", {}, 3, 1.0),
    ("breadcrumbs", {}, 2, ODD), ("breadcrumbs", {"density": 0.6, "gamma": 0.25, "weights": THREE}, 3, ODD),
    ("breadcrumbs", {"density": 0.75, "gamma": 0.25}, 2, ODD), ("breadcrumbs", {"density": 1.0, "gamma": 0.0}, 2, ODD),
    ("ties", {"density": (0.37, 1.0, 0.05), "weights": THREE}, 3, ODD),
    ("ties", {"density": (0.37, 0.61), "trim": "model"}, 2, ODD),
    ("dare", {"density": (0.4, 0.8), "normalize": True}, 2, ODD),
    ("dare_ties", {"density": (0.4, 1.0, 0.7), "weights": THREE}, 3, ODD),
    ("breadcrumbs", {"density": (0.4, 0.9), "gamma": (0.0, 0.07)}, 2, ODD),
    ("della", {"density": (0.6, 0.4), "epsilon": (0.0, 0.3)}, 2, ODD),
    ("della_linear", {}, 2, ODD), ("della_linear", {"density": (0.9, 0.5), "normalize": True, "weights": TWO}, 2, ODD),
    ("della", {}, 2, ODD), ("della", {"density": 0.7, "epsilon": 0.5, "seed": 9}, 3, ODD),
    ("della", {"normalize": False, "weights": TWO}, 2, ODD), ("della", {"density": 1.0, "epsilon": 0.0}, 2, ODD),
    ("sce", {}, 2, ODD), ("sce", {"density": 0.5}, 3, ODD), ("sce", {"density": 1.0}, 3, 1.0),
]  # fmt: skip
EACH = pytest.mark.parametrize(("name", "parameters", "many", "at"), CASES, ids=lambda value: str(value))


@pytest.fixture(params=["kernel", "passes"])
def way(request: pytest.FixtureRequest) -> Iterator[str]:
    """Every test that asks for it runs with the compiled kernels and with torch's operations in their place."""
    if request.param == "kernel" and KERNEL is None:
        pytest.skip("mull was installed without its compiled part")
    compiled.kernels = KERNEL if request.param == "kernel" else None
    yield request.param
    compiled.kernels = KERNEL


def decode(values: Tensor) -> Array:
    if values.dtype == torch.bfloat16:
        bits = values.view(torch.int16).numpy().view(np.uint16).astype(np.uint32)
        return (bits << 16).view(np.float32).astype(np.float64)
    return values.numpy().astype(np.float64)


def unit(values: Array, dtype: torch.dtype) -> Array:
    """One unit in the last place of each value."""
    digits, smallest = {torch.bfloat16: (8, -125), torch.float16: (11, -13), torch.float32: (24, -125)}[dtype]
    return np.ldexp(1.0, np.maximum(np.frexp(values)[1], smallest) - digits)


def finetunes(shape: tuple[int, ...], many: int, dtype: torch.dtype, seed: int) -> tuple[list[Tensor], Tensor]:
    """Models that share much of their change from the base; a tenth of the elements never changed."""
    generator = torch.Generator().manual_seed(seed)

    def normal() -> Tensor:
        return torch.randn(shape, generator=generator)

    base, shared, frozen = normal(), normal(), torch.rand(shape, generator=generator) < 0.1
    changes = [torch.where(frozen, 0.0, 0.02 * shared + 0.02 * normal()) for _ in range(many)]
    return [(base + change).to(dtype) for change in changes], base.to(dtype)


def strangers(shape: tuple[int, ...], many: int, dtype: torch.dtype, seed: int) -> tuple[list[Tensor], Tensor]:
    generator = torch.Generator().manual_seed(seed)
    sizes = (0.6, *[1.0] * many)  # Model Stock's t would be 3/4 for a base of the same size: near half-way results
    made = [(size * torch.randn(shape, generator=generator)).to(dtype) for size in sizes]
    return made[1:], made[0]


def both(name: str, parameters: dict[str, Any], models: list[Tensor], base: Tensor, at: float) -> tuple[Array, Array]:
    """mull's result and the reference's."""
    name, _, based = name.partition(" ")
    method = make(name, parameters)
    origin = base if method.base == "required" or based else None
    got = method.combine(models, origin, at)
    assert (got.dtype, got.shape) == (models[0].dtype, models[0].shape)
    reference = REFERENCES[name]
    wanted = reference([decode(m) for m in models], None if origin is None else decode(origin), at, **parameters)
    return decode(got), np.asarray(wanted, np.float64)


@pytest.mark.parametrize(
    ("counter", "key", "wanted"),
    [
        ([0] * 4, [0] * 2, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
        ([0xFFFFFFFF] * 4, [0xFFFFFFFF] * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            [0xA4093822, 0x299F31D0],
            [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
        ),
    ],
)
def test_philox_has_the_answers_that_random123_publishes(counter: list[int], key: list[int], wanted: list[int]) -> None:
    assert philox(counter, key) == wanted


def test_every_method_has_a_reference_and_cases() -> None:
    assert REFERENCES.keys() == METHODS.keys() == {name.split()[0] for name, *_ in CASES}


@EACH
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_rounded_at_the_end_only(name: str, parameters: dict, many: int, at: float, dtype: torch.dtype) -> None:
    elements = others = 0
    for shape in SHAPES:
        for make_models in (finetunes, strangers):
            models, base = make_models(shape, many, dtype, seed=zlib.crc32(repr((name, shape)).encode()))
            got, wanted = both(name, parameters, models, base, at)
            step = unit(wanted, dtype)
            nearest = np.rint(wanted / step) * step
            terms = sum(np.abs(decode(tensor)) for tensor in (*models, base))
            assert (np.abs(got - wanted) <= np.maximum((0.5 + 2.0**-12) * step, terms * 2.0**-40)).all(), shape
            elements, others = elements + got.size, others + int((got != nearest).sum())
    assert others <= 2e-4 * elements


@EACH
def test_both_ways_give_the_same_bytes(
    name: str, parameters: dict, many: int, at: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    if KERNEL is None:
        pytest.skip("mull was installed without its compiled part")
    generator = torch.Generator().manual_seed(0)
    bits = torch.randint(0x0001, 0x7A00, (many + 1, 3, 1031), dtype=torch.int32, generator=generator)
    signs = 0x8000 * torch.randint(0, 2, bits.shape, dtype=torch.int32, generator=generator)
    wild = (bits + signs).to(torch.uint16).view(torch.bfloat16)
    method = make(name.split()[0], parameters)
    sets = [finetunes(shape, many, torch.bfloat16, seed=1) for shape in SHAPES] + [([*wild[1:]], wild[0])]
    for models, base in sets:
        origin = base if method.base == "required" or "based" in name else None
        results = []
        for kernels in (KERNEL, None):
            monkeypatch.setattr(compiled, "kernels", kernels)
            results.append(method.combine(models, origin, at).view(torch.int16))
        assert torch.equal(*results)


@pytest.mark.parametrize("name", sorted(METHODS))
def test_models_and_base_of_different_dtypes(name: str, way: str) -> None:
    models, base = finetunes((40, 50), 2, torch.float32, seed=2)
    models = [models[0].bfloat16(), models[1].half()]
    got, wanted = both(name, {}, models, base, ODD)
    assert (np.abs(got - wanted) <= 0.5001 * unit(wanted, torch.bfloat16)).all()


@pytest.mark.parametrize("name", sorted(METHODS))
def test_models_that_are_zero_or_alike(name: str, way: str) -> None:
    """No direction, no spread, no agreement: what is left undefined elsewhere has a value, and a finite one."""
    models, base = finetunes((8, 16), 2, torch.float32, seed=3)
    zero = torch.zeros(8, 16)
    half = models[0].clone()
    half[::2] = 0
    for sides, origin in (
        ([zero, models[1]], base), ([zero, zero], base), ([zero, zero], zero), ([models[0], models[0]], base),
        ([base, models[1]], base), ([half, models[1]], base), ([models[0], models[0]], models[0]),
    ):  # fmt: skip
        got, wanted = both(name, {}, sides, origin, ODD)
        sizes = sum(np.abs(decode(tensor)) for tensor in (*sides, origin))
        assert (np.abs(got - wanted) <= np.maximum(0.5001 * unit(wanted, torch.float32), sizes * 2.0**-40)).all()
