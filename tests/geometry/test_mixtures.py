"""Hidden states and losses at every λ against transformers on merged checkpoints."""

import pytest
import torch

from mull.checkpoints.pair import Pair
from mull.geometry.mixtures import Mixtures
from mull.merging.coefficients import Coefficients
from mull.merging.streaming.plan import plan_merge
from mull.merging.streaming.stream import merge
from tests.engines.conftest import own_model

LAMS = (0.0, 0.35, 1.0)
PROMPT, RESPONSE = [7, 9, 11, 2], [3, 40, 8, 21, 5]


def mixtures(instruct, thinking, **more):
    return Mixtures(instruct, thinking, LAMS, donor="thinking", device=torch.device("cpu"), **more)


@torch.inference_mode()
def by_transformers(folder):
    """States of the response's tokens per layer, and its negative log-likelihood."""
    model = own_model(folder)
    ids = torch.tensor([PROMPT + RESPONSE])
    output = model(input_ids=ids, output_hidden_states=True)
    logits = output.logits[0].double().log_softmax(-1)
    loss = -sum(logits[len(PROMPT) + i - 1, token] for i, token in enumerate(RESPONSE)).item()
    return [layer[0, len(PROMPT) :] for layer in output.hidden_states], loss


@pytest.fixture(scope="module")
def merged(pairs, tmp_path_factory):
    """The folder of the merged checkpoint of a kind at 0.35."""

    def make(kind):
        out = tmp_path_factory.mktemp("merged") / kind
        pair = Pair.open(*map(str, pairs(kind)))
        merge(plan_merge(pair, Coefficients.scalar(LAMS[1])), out)
        return out

    return make


@pytest.mark.parametrize("kind", ["qwen3", "gemma2", "qwen3_moe"])
def test_switched_weights_are_the_merged_checkpoint(pairs, merged, kind):
    instruct, thinking = pairs(kind)
    found = mixtures(instruct, thinking, by_row=False)
    assert found.rounded
    reading = found.read(PROMPT, RESPONSE)
    for i, folder in enumerate((instruct, merged(kind), thinking)):
        states, loss = by_transformers(folder)
        assert len(reading.states) == len(states)
        for mine, wanted in zip(reading.states, states, strict=True):
            torch.testing.assert_close(mine[i], wanted, rtol=1e-4, atol=1e-5)
        assert reading.losses[i].item() == pytest.approx(loss, rel=1e-4)


@pytest.mark.parametrize("kind", ["qwen3", "gemma2", "llama", "qwen3_moe"])
def test_rows_of_one_batch_are_the_same_without_the_rounding(pairs, kind):
    by_row, switched = mixtures(*pairs(kind)), mixtures(*pairs(kind), by_row=False)
    assert not by_row.rounded
    mine, wanted = by_row.read(PROMPT, RESPONSE), switched.read(PROMPT, RESPONSE)
    for a, b in zip(mine.states, wanted.states, strict=True):
        torch.testing.assert_close(a[[0, 2]], b[[0, 2]], rtol=1e-3, atol=1e-4)  # the ends have nothing to round
        if kind != "qwen3_moe":  # rounding may choose another expert
            assert (a[1] - b[1]).norm() < 0.02 * b[1].norm()
    assert mine.losses[[0, 2]].tolist() == pytest.approx(wanted.losses[[0, 2]].tolist(), rel=1e-3)


def test_a_family_that_cannot_mix_by_row_is_switched(pairs, monkeypatch):
    def cannot(*_):
        raise NotImplementedError("a weight of another kind")

    monkeypatch.setattr("mull.geometry.mixtures.mix_by_row", cannot)
    found = mixtures(*pairs("qwen3"))
    assert found.rounded
    assert found.read(PROMPT, RESPONSE).losses.shape == (3,)


def test_shuffling_keeps_rows_and_instruct_and_is_seeded(pairs):
    plain, once, again, other = (
        mixtures(*pairs("qwen3"), by_row=False, shuffle=seed)._weights.parameters for seed in (None, 0, 0, 1)
    )
    for before, a, b, c in zip(plain, once, again, other, strict=True):
        assert torch.equal(a.thinking, b.thinking) and torch.equal(a.instruct, before.instruct)
        assert not torch.equal(a.thinking, before.thinking) and not torch.equal(a.thinking, c.thinking)
        rows = (end.reshape(-1, end.shape[-1] if end.dim() > 1 else 1).float() for end in (a.thinking, before.thinking))
        assert sorted(map(tuple, next(rows).tolist())) == sorted(map(tuple, next(rows).tolist()))


def test_the_control_keeps_instruct_at_0(pairs):
    plain, control = mixtures(*pairs("qwen3")), mixtures(*pairs("qwen3"), shuffle=0)
    a, b = plain.read(PROMPT, RESPONSE).losses, control.read(PROMPT, RESPONSE).losses
    assert a[0].item() == pytest.approx(b[0].item(), rel=1e-5)
    assert a[2].item() != pytest.approx(b[2].item(), rel=1e-2)
