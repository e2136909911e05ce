"""The draw against exact truncated distributions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from mull.engines.base import Sampling
from mull.engines.local.decoding.sampler import RowSampler, uniforms

DRAWS = 20_000
CPU = torch.device("cpu")
LOGITS = torch.tensor([0.3, 2.0, -1.0, 1.5, 0.0, 2.2, -3.0, 1.1])


def exact(sampling: Sampling) -> np.ndarray:
    """The truncated distribution, written out a token at a time."""
    scaled = LOGITS.double().numpy() / sampling.temperature
    probabilities = np.exp(scaled) / np.exp(scaled).sum()
    order = np.argsort(-probabilities)
    kept = list(order[: sampling.top_k or len(order)])
    mass, total = 0.0, sum(probabilities[kept])
    nucleus = []
    for token in kept:
        nucleus.append(token)
        mass += probabilities[token] / total
        if mass >= sampling.top_p:
            break
    truncated = np.zeros_like(probabilities)
    truncated[nucleus] = probabilities[nucleus]
    return truncated / truncated.sum()


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(temperature=1.0, top_k=0, top_p=1.0),
        Sampling(temperature=0.6, top_k=0, top_p=0.8),
        Sampling(temperature=1.5, top_k=3, top_p=1.0),
        Sampling(temperature=0.9, top_k=5, top_p=0.7),
        Sampling(temperature=0.7, top_k=50, top_p=0.95),
        Sampling(temperature=1.0, top_k=0, top_p=0.01),
    ],
)
def test_draws_follow_the_truncated_distribution(sampling: Sampling) -> None:
    sampler = RowSampler(DRAWS, CPU)
    for slot in range(DRAWS):
        sampler.set(slot, sampling, slot)
    tokens, logprobs = sampler.draw(LOGITS.expand(DRAWS, -1), np.zeros(DRAWS, np.int64))
    counts = np.bincount(tokens.numpy(), minlength=len(LOGITS))
    expected = exact(sampling)
    assert not counts[expected == 0].any()
    kept = expected > 0
    if kept.sum() > 1:
        assert chisquare(counts[kept], expected[kept] * DRAWS).pvalue > 1e-4
    torch.testing.assert_close(logprobs, LOGITS.log_softmax(-1)[tokens])


def test_rows_keep_their_own_parameters() -> None:
    """Greedy, narrow and wide rows in one batch draw as they do alone."""
    kinds = [Sampling(temperature=0), Sampling(temperature=2.0, top_k=2), Sampling(temperature=2.0, top_k=0, top_p=1.0)]
    logits = torch.randn(300, 50, generator=torch.Generator().manual_seed(0))
    steps = np.arange(300)
    together = RowSampler(300, CPU)
    for slot in range(300):
        together.set(slot, kinds[slot % 3], slot)
    tokens, _ = together.draw(logits, steps)
    for slot in range(300):
        alone = RowSampler(1, CPU)
        alone.set(0, kinds[slot % 3], slot)
        assert alone.draw(logits[slot : slot + 1], steps[slot : slot + 1])[0].item() == tokens[slot]
    assert torch.equal(tokens[::3], logits[::3].argmax(-1))


def test_permuted_rows_take_their_parameters_along() -> None:
    sampler = RowSampler(2, CPU)
    sampler.set(0, Sampling(temperature=0), 3)
    sampler.set(1, Sampling(temperature=5.0, top_k=0, top_p=1.0), 4)
    logits, steps = torch.randn(2, 500, generator=torch.Generator().manual_seed(0)), np.array([7, 9])
    before, _ = sampler.draw(logits, steps)
    sampler.permute(np.array([1, 0]))
    after, _ = sampler.draw(logits.flip(0), steps[::-1])
    assert torch.equal(before.flip(0), after)


def test_uniforms_are_splitmix64() -> None:
    """Against the published algorithm in Python integers."""
    mask = (1 << 64) - 1

    def mix(bits: int) -> int:
        bits = (bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9 & mask
        bits = (bits ^ (bits >> 27)) * 0x94D049BB133111EB & mask
        return bits ^ (bits >> 31)

    def uniform(seed: int, step: int) -> float:
        state = mix(seed + 0x9E3779B97F4A7C15 & mask) + (step + 1) * 0x9E3779B97F4A7C15
        return (mix(state & mask) >> 11) / 2**53

    seeds, steps = [0, 1, 2**63, mask], [0, 5, 80_000, 3]
    found = uniforms(np.array(seeds, np.uint64), np.array(steps))
    assert found.tolist() == [uniform(*pair) for pair in zip(seeds, steps, strict=True)]
    many = uniforms(np.arange(100_000, dtype=np.uint64), np.zeros(100_000, np.int64))
    assert abs(many.mean() - 0.5) < 0.005
    assert abs(np.corrcoef(many[1:], many[:-1])[0, 1]) < 0.02


@pytest.mark.parametrize("seed", [-1, 2**70 + 3])
def test_any_integer_is_a_seed(seed: int) -> None:
    sampler = RowSampler(1, CPU)
    sampler.set(0, Sampling(), seed)
    sampler.draw(LOGITS[None], np.array([0]))
