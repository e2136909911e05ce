"""Reading prompts, against transformers' own hidden states, at any λ and for several architectures."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from mull.engines.local import reading
from mull.engines.local.engine import LocalEngine
from mull.errors import MullError

from ..conftest import VOCABULARY, own_model


def prompts(count=9, longest=30):
    rng = random.Random(0)
    return [[rng.randrange(6, VOCABULARY) for _ in range(rng.randint(1, longest))] for _ in range(count)]


@pytest.mark.parametrize("kind", ["qwen3", "llama", "mistral", "gemma2", "gemma3"])
@pytest.mark.parametrize("lam", [0.0, 0.3, 1.0])
def test_hidden_states_and_likeliest_tokens_equal_transformers(pairs, kind, lam, monkeypatch):
    monkeypatch.setattr(reading, "MOST_TOKENS", 64)  # several batches, each padded
    engine = LocalEngine(*pairs(kind), processes=1, by_row=True)
    ends = [own_model(folder) for folder in pairs(kind)]
    with torch.no_grad():
        for parameter, other in zip(ends[0].parameters(), ends[1].parameters(), strict=True):
            parameter.copy_((1 - lam) * parameter.double() + lam * other.double())
    for found, prompt in zip(engine.read(prompts(), lam), prompts(), strict=True):
        with torch.no_grad():
            output = ends[0](torch.tensor([prompt]), output_hidden_states=True)
        expected = torch.stack([state[0, -1] for state in output.hidden_states[1:]])
        scale = float(expected.abs().max())
        np.testing.assert_allclose(found.hidden, expected, atol=2e-4 * scale)
        logprobs = output.logits[0, -1].log_softmax(-1).sort(descending=True).values[: reading.TOP]
        np.testing.assert_allclose(found.top_logprobs, logprobs, atol=5e-4)
        assert found.hidden.dtype == found.top_logprobs.dtype == np.float32


def test_batches_hold_no_more_than_they_may(monkeypatch):
    sizes = []

    def model(*, input_ids, position_ids, logits_to_keep, **_):
        sizes.append(tuple(input_ids.shape))
        hidden = input_ids[..., None].float()
        return type(
            "Output", (), {"hidden_states": [hidden, hidden], "logits": hidden[:, logits_to_keep].expand(-1, -1, 4)}
        )

    monkeypatch.setattr(reading, "MOST_TOKENS", 40)
    given = [[i] * length for i, length in enumerate((3, 50, 12, 3, 20, 11))]
    found = list(reading.read(model, given, torch.device("cpu")))
    assert [float(each.hidden[0, 0]) for each in found] == [0, 1, 2, 3, 4, 5], "in their order"
    assert sizes == [(1, 50), (2, 20), (3, 11)]


def test_what_cannot_be_read_is_refused(pairs):
    engine = LocalEngine(*pairs("qwen3"), processes=1, by_row=True)
    for wrong in ([], [7] * (engine.context + 1)):
        with pytest.raises(MullError, match="the model's context is 256"):
            list(engine.read([[7], wrong], 0.5))
    with pytest.raises(MullError, match="without a λ per row"):
        list(LocalEngine(*pairs("qwen3"), processes=1).read([[7]], 0.5))
