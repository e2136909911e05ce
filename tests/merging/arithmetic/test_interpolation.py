"""The reference is numpy in float64, with its own decoding and its own rounding to nearest even."""

import shutil
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from mull.merging.arithmetic import compiled
from mull.merging.arithmetic.interpolation import interpolate

KERNEL = compiled.kernels
LAMBDAS = [0.8, 0.5, 0.45, 0.1, 0.999, 0.001, 1 / 3, 1e-5, 1 - 1e-9]


@pytest.fixture(params=["kernel", "passes"], autouse=True, scope="module")
def way(request: pytest.FixtureRequest) -> Iterator[None]:
    """Every test here runs with the compiled kernel and with torch's operations in its place."""
    if request.param == "kernel" and KERNEL is None:
        pytest.skip("mull was installed without its compiled part")
    compiled.kernels = KERNEL if request.param == "kernel" else None
    yield
    compiled.kernels = KERNEL


def decode(values: Tensor) -> NDArray[np.float64]:
    if values.dtype == torch.bfloat16:
        bits = values.view(torch.int16).numpy().view(np.uint16).astype(np.uint32)
        return (bits << 16).view(np.float32).astype(np.float64)
    return values.numpy().astype(np.float64)


def mantissa_bits(dtype: torch.dtype) -> int:
    return {torch.bfloat16: 8, torch.float16: 11, torch.float32: 24}[dtype]


def exact(instruct: Tensor, thinking: Tensor, lam: float) -> tuple[NDArray[Any], NDArray[Any]]:
    """The sum in extended precision (64 bits), and the size of its terms."""
    i, t = (decode(side).astype(np.longdouble) for side in (instruct, thinking))
    weight = np.longdouble(lam)
    return weight * t + (1 - weight) * i, np.abs(weight * t) + np.abs((1 - weight) * i)


def unit(values: NDArray[Any], dtype: torch.dtype) -> NDArray[Any]:
    """One unit in the last place of each value; subnormals as those of bfloat16 and float32."""
    _, exponent = np.frexp(values)
    return np.ldexp(np.longdouble(1), np.maximum(exponent, -125) - mantissa_bits(dtype))


def merged(instruct: Tensor, thinking: Tensor, lam: float, dtype: torch.dtype | None = None, **options: int) -> Tensor:
    out = torch.empty(instruct.shape, dtype=dtype or instruct.dtype)
    interpolate(instruct, thinking, lam, out, **options)
    return out


def check(instruct: Tensor, thinking: Tensor, lam: float) -> None:
    """Half a unit in the last place and hardly more, except where the terms cancel below 2^-40 of their size."""
    got = decode(merged(instruct, thinking, lam)).astype(np.longdouble)
    wanted, size = exact(instruct, thinking, lam)
    allowed = np.maximum((0.5 + 2.0**-14) * unit(wanted, instruct.dtype), size * 2.0**-40)
    assert (np.abs(got - wanted) <= allowed).all()


@pytest.mark.parametrize("lam", [*LAMBDAS, 1.5, -0.7, 3.0])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_one_rounding(lam: float, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    instruct = torch.randn(200_003)
    check(instruct.to(dtype), (instruct + 0.05 * torch.randn(200_003)).to(dtype), lam)  # two fine-tunes of one model
    check(torch.randn(200_003).to(dtype), torch.randn(200_003).to(dtype), lam)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_hardly_an_element_is_rounded_the_other_way(dtype: torch.dtype) -> None:
    """For a λ that is no short decimal: 0.8 makes ties, which float64's 0.8 would break by its own error."""
    torch.manual_seed(6)
    i, t = torch.randn(1_000_003).to(dtype), torch.randn(1_000_003).to(dtype)
    for lam in (0.7390851332151607, 0.1415926535897932):
        wanted, _ = exact(i, t, lam)
        step = unit(wanted, dtype)
        assert (decode(merged(i, t, lam)) != np.rint(wanted / step) * step).mean() <= 2e-4


@pytest.mark.parametrize("lam", [*LAMBDAS, 2.0**-17, 1 - 2.0**-20])
def test_where_the_terms_cancel(lam: float) -> None:
    torch.manual_seed(1)
    instruct = torch.randn(200_003).bfloat16()
    thinking = (instruct.float() * -(1 - lam) / lam).bfloat16()
    check(instruct, thinking, lam)


@pytest.mark.parametrize("lam", LAMBDAS)
@pytest.mark.parametrize("swapped", [False, True])
def test_where_one_end_is_many_times_the_other(lam: float, swapped: bool) -> None:
    torch.manual_seed(2)
    sides = [
        torch.randn(100_003).bfloat16(),
        (torch.randn(100_003) * 2.0 ** torch.randint(-40, 40, (100_003,))).bfloat16(),
    ]
    near, far = sides[::-1] if swapped else sides
    check(near, far, lam)


def test_every_pair_of_exponents() -> None:
    """All signs and exponents of bfloat16 against each other, subnormals too, below the size where sums overflow."""
    bits = torch.arange(0, 0x7E00, 97, dtype=torch.int32)
    values = torch.cat([bits, bits + 0x8000]).to(torch.uint16).view(torch.bfloat16)
    i, t = (side.contiguous().view(-1) for side in torch.broadcast_tensors(values[:, None], values[None]))
    for lam in (0.8, 0.3):
        check(i, t, lam)


@pytest.mark.skipif(KERNEL is None, reason="mull was installed without its compiled part")
def test_the_kernel_and_torch_give_the_same_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(7)
    bits = torch.randint(0, 0x7E00, (2, 300_007), dtype=torch.int32) + 0x8000 * torch.randint(0, 2, (2, 300_007))
    i, t = bits.to(torch.int32).to(torch.uint16).view(torch.bfloat16)
    for lam in (0.8, 0.3, 1 / 3, 1.7, -0.4, 2.0**-11, 0.5):
        results = []
        for kernels in (KERNEL, None):
            monkeypatch.setattr(compiled, "kernels", kernels)
            wide = torch.empty(i.shape)
            interpolate(i, t, lam, wide, rounded=torch.bfloat16)
            narrow = merged(i, t, lam)
            assert torch.equal(wide, narrow.float())
            results.append(narrow.view(torch.int16))
        assert torch.equal(*results)


@pytest.mark.skipif(shutil.which("cc") is None, reason="no compiler here")
def test_the_kernel_was_built_where_there_is_a_compiler() -> None:
    assert KERNEL is not None


def test_the_kernel_refuses_buffers_that_do_not_fit() -> None:
    if KERNEL is None:
        pytest.skip("mull was installed without its compiled part")
    for near, far, out in ((8, 8, 6), (8, 6, 8), (7, 7, 7), (0, 2, 0), (8, 8, 32)):
        with pytest.raises(ValueError, match="length"):
            KERNEL.interpolate(bytes(near), bytes(far), bytearray(out), 0.2, 0.0)
    with pytest.raises(TypeError):
        KERNEL.interpolate(bytes(8), bytes(8), bytes(8), 0.2, 0.0)


@pytest.mark.parametrize("rounded", [torch.bfloat16, torch.float16])
def test_rounding_to_another_dtype_than_that_of_the_output(rounded: torch.dtype) -> None:
    torch.manual_seed(8)
    i, t = torch.randn(10_007).bfloat16(), torch.randn(10_007).bfloat16()
    for lam in (0, 0.8, 1):
        wide = torch.empty(i.shape)
        interpolate(i, t, lam, wide, rounded=rounded, block=1000)
        assert torch.equal(wide, merged(i, t, lam, rounded).float())


def test_float16_and_mixed_dtypes() -> None:
    torch.manual_seed(3)
    i, t = torch.randn(9999), torch.randn(9999)
    for kinds in (
        (torch.float16,) * 3,
        (torch.float32, torch.bfloat16, torch.bfloat16),
        (torch.bfloat16, torch.float32, torch.float16),
    ):
        left, right = i.to(kinds[0]), t.to(kinds[1])
        got = decode(merged(left, right, 0.8, kinds[2]))
        wanted, _ = exact(left, right, 0.8)
        step = np.maximum(unit(wanted, kinds[2]), 2.0**-24)  # the smallest float16
        assert (np.abs(got - wanted) <= (0.5 + 2.0**-12) * step).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_ends_are_untouched_bit_for_bit(dtype: torch.dtype) -> None:
    every = torch.arange(65536, dtype=torch.int32).to(torch.uint16).view(dtype)  # NaN payloads, infinities, −0
    other = torch.zeros(65536, dtype=dtype)
    for lam, sides in ((0, (every, other)), (1.0, (other, every)), (-0.0, (every, other))):
        out = merged(*sides, lam)
        assert torch.equal(out.view(torch.int16), every.view(torch.int16))


@given(
    size=st.integers(0, 700),
    block=st.integers(1, 800),
    lam=st.floats(-2, 2).filter(lambda lam: lam not in (0, 1)),
    seed=st.integers(0, 99),
)
def test_the_block_does_not_matter(size: int, block: int, lam: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    i, t = (torch.randn(size, generator=generator).bfloat16() for _ in range(2))
    whole = merged(i, t, lam)
    assert torch.equal(merged(i, t, lam, block=block).view(torch.int16), whole.view(torch.int16))
    if size > 3:
        assert torch.equal(merged(i[3:].clone(), t[3:].clone(), lam).view(torch.int16), whole[3:].view(torch.int16))


@pytest.mark.parametrize("lam", [0.8, 0.75, 0.3, 0.1, 1 / 3, 1.25])
def test_swapping_the_sides_mirrors_lambda(lam: float) -> None:
    torch.manual_seed(4)
    i, t = torch.randn(100_003).bfloat16(), torch.randn(100_003).bfloat16()
    mirrored = merged(t, i, 1 - lam)
    assert (merged(i, t, lam) != mirrored).double().mean() <= 2e-5


def test_out_may_be_an_input_and_shapes_may_be_empty_or_scalar() -> None:
    for shape in ((), (0,), (0, 3), (5, 7)):
        i, t = torch.randn(shape).bfloat16(), torch.randn(shape).bfloat16()
        wanted = merged(i, t, 0.8)
        for out in (i.clone(), t.clone()):
            sides = (out, t) if torch.equal(out, i) else (i, out)
            interpolate(*sides, 0.8, out)
            assert torch.equal(out, wanted)


def test_between_ends_that_agree_nothing_changes() -> None:
    same = torch.randn(10_001).bfloat16()
    for lam in LAMBDAS:
        assert torch.equal(merged(same, same, lam), same)


def test_threads_do_not_share_scratch() -> None:
    torch.manual_seed(5)
    jobs = [(torch.randn(300_000).bfloat16(), torch.randn(300_000).bfloat16(), lam) for lam in (0.2, 0.4, 0.6, 0.8)]
    wanted = [merged(*job) for job in jobs]
    got: dict[int, Tensor] = {}

    def work(index: int) -> None:
        for _ in range(5):
            got[index] = merged(*jobs[index], block=4096)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(got[index], wanted[index]) for index in range(4))
