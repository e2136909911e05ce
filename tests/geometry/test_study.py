"""The study's sums, intervals and verdicts: on made-up states, and on the built-in pair against its control."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from mull.errors import MullError
from mull.geometry.mixtures import Mixtures, Reading
from mull.geometry.similarity import gram, hsic
from mull.geometry.study import excess_loss, measured, study
from mull.geometry.texts import STYLES, Text, long_enough
from mull.tiny import checkpoint_folder

LAMS = (0.0, 0.25, 0.5, 1.0)


def texts(questions=6):
    rng = np.random.default_rng(0)
    return [
        Text(f"q{i}", style, (1, 2), tuple(rng.integers(0, 50, size=int(rng.integers(5, 15))).tolist()))
        for i in range(questions)
        for style in STYLES
    ]


def made_up(lams=LAMS, loss=lambda lam: 1 + lam, layers=2, noise=0.3):
    """A stand-in for `Mixtures` with random states; the same text always has the same."""

    def read(prompt, response):
        generator = torch.Generator().manual_seed(sum(response) + len(response))
        states = [torch.randn(1, len(response), 6, generator=generator).repeat(len(lams), 1, 1) for _ in range(layers)]
        states = [layer + noise * torch.randn(layer.shape, generator=generator) for layer in states]
        return Reading(states, torch.tensor([loss(lam) * len(response) for lam in lams]))

    return SimpleNamespace(lams=lams, read=read, model=torch.nn.Linear(2, 2))


def test_streaming_equals_the_whole():
    given, mixtures = texts(), made_up()
    sums = measured(mixtures, given)
    found = study(LAMS, sums, sums, rounded=False)
    readings = [mixtures.read(text.prompt, text.response) for text in given]
    for layer in range(2):
        for i in range(len(LAMS) - 1):
            grams = [[gram(r.states[layer][i + j].double()) for j in range(2)] for r in readings]
            cross, own, next_own = (np.mean([hsic(g[a], g[b]) for g in grams]) for a, b in ((0, 1), (0, 0), (1, 1)))
            assert found.pair.cka.value[layer, i] == pytest.approx(cross / np.sqrt(own * next_own), rel=1e-12)
            cosines = [
                torch.cosine_similarity(*(r.states[layer][i + j].double() for j in range(2)), dim=-1).mean().item()
                for r in readings
            ]
            assert found.pair.cosine.value[layer, i] == pytest.approx(np.mean(cosines), rel=1e-12)
    # In another order, and in two parts, the sums are the same.
    turned = measured(mixtures, [*reversed(given)])
    np.testing.assert_allclose(turned.own[::-1], sums.own, rtol=1e-12)
    parts = [measured(mixtures, given[:6]), measured(mixtures, given[6:])]
    np.testing.assert_allclose(np.concatenate([part.cross for part in parts]), sums.cross, rtol=1e-12)


@pytest.mark.parametrize(
    ("loss", "height", "at"),
    [
        (lambda lam: 1 + 0.5 * lam, 0.0, None),  # linear: no barrier
        (lambda lam: 1 + lam**2, 0.0, None),  # below the line
        (lambda lam: 1 + lam + 3e-7 * (0 < lam < 1), 0.0, None),  # rounding
        (lambda lam: 1 + 4 * lam * (1 - lam), 1.0, 0.5),
    ],
)
def test_the_barrier_of_known_losses(loss, height, at):
    sums = measured(made_up(loss=loss), texts())
    found = study(LAMS, sums, sums, rounded=False)
    for barrier in found.pair.barriers.values():
        assert barrier.height.value == pytest.approx(height, abs=1e-6)
        assert barrier.height.low <= barrier.height.value + 1e-6
        if at is not None:
            assert barrier.at == at
            assert barrier.inside == barrier.height
        else:
            assert barrier.inside.value <= 1e-6
    assert found.connected == (height == 0)


def test_excess_against_the_formula():
    losses, lams = np.array([[1.0, 5.0, 3.0], [2.0, 0.0, 4.0]]), np.array([0.0, 0.25, 1.0])
    assert excess_loss(losses, lams).tolist() == [[0, 5 - 1.5, 0], [0, 0 - 2.5, 0]]


def test_intervals_hold_the_value_and_narrow_with_questions():
    few, many = (measured(made_up(), texts(n)) for n in (6, 60))
    small, large = (study(LAMS, sums, sums, rounded=False).pair.mean_cka for sums in (few, many))
    for found in (small, large):
        assert found.low < found.value < found.high
    assert large.high - large.low < 0.6 * (small.high - small.low)


def test_the_verdict_compares_with_the_control():
    good, bad = (measured(made_up(noise=noise, loss=loss), texts(20)) for noise, loss in (
        (0.05, lambda lam: 1 - lam / 2), (2.0, lambda lam: 1 + 4 * lam * (1 - lam))
    ))  # fmt: skip
    found = study(LAMS, good, bad, rounded=False)
    assert found.gradual and found.connected and found.control_breaks
    swapped = study(LAMS, bad, good, rounded=False)
    assert not (swapped.gradual or swapped.connected or swapped.control_breaks)


def test_wrong_grids_and_numbers_are_refused():
    with pytest.raises(MullError, match="rise from 0 to 1"):
        measured(made_up(lams=(0.0, 1.0)), texts())
    with pytest.raises(MullError, match="rise from 0 to 1"):
        measured(made_up(lams=(0.1, 0.5, 1.0)), texts())
    with pytest.raises(MullError, match="not finite"):
        measured(made_up(loss=lambda lam: float("nan")), texts())


def test_responses_that_are_too_short_are_left_out_with_their_question():
    given = [Text("a", "instruct", (1,), (1, 2, 3)), Text("a", "thinking", (1,), (1,) * 9), *texts(2)]
    assert {text.question for text in long_enough(given)} == {"q0", "q1"}
    with pytest.raises(MullError, match="fewer than two questions"):
        long_enough(given[:4])


def test_the_built_in_pair_is_continuous_and_its_control_is_not():
    """Even on a few texts of arbitrary tokens."""
    given = [
        Text(f"q{i}", style, (400, 21 + i, 35), tuple((7 * j + 3 * i) % 390 for j in range(24)))
        for i in range(4)
        for style in STYLES
    ]
    lams = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)

    def read(shuffle):
        folders = checkpoint_folder("instruct"), checkpoint_folder("thinking")
        return measured(Mixtures(*folders, lams, donor="thinking", device=torch.device("cpu"), shuffle=shuffle), given)

    found = study(lams, read(None), read(0), rounded=False)
    assert found.pair.lowest_cka.value > 0.95
    assert found.control.lowest_cka.value < 0.8
    assert found.cka_gain.low > 0.1 and found.gradual
    assert found.pair.largest_linearity.value < 0.5 < found.control.largest_linearity.value
    assert np.isnan(found.pair.linearity.value[0]).all()  # both ends have the same embedding
