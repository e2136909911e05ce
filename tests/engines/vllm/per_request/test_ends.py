"""Layers that cannot mix are refused by name, and so is an end that was not read wholly."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import nn

from mull.errors import MullError

pytestmark = pytest.mark.vllm


@pytest.fixture
def model() -> Iterator[nn.Module]:
    """Two norms of vLLM's, in the context in which vLLM makes layers."""
    from vllm.config import VllmConfig, set_current_vllm_config
    from vllm.model_executor.layers.layernorm import RMSNorm

    with set_current_vllm_config(VllmConfig()):
        yield nn.Sequential(RMSNorm(4), RMSNorm(4))


def ends_of(model: nn.Module):
    from mull.engines.vllm.per_request.ends import Ends
    from mull.engines.vllm.per_request.rows import RowLambdas

    return Ends(model, RowLambdas(8, 1.0, "cpu"))


def test_layers_that_cannot_mix_are_named(model: nn.Module):
    model.append(nn.Linear(4, 4))
    with pytest.raises(MullError, match=r"weights of 2 \(Linear\)\. Use `--engine vllm`"):
        ends_of(model)


def test_a_norm_of_another_class_is_refused(model: nn.Module):
    """It may compute something else."""
    model[0].__class__ = type("OwnNorm", (type(model[0]),), {})
    with pytest.raises(MullError, match="OwnNorm"):
        ends_of(model)


def test_both_halves_are_read_and_joined(model: nn.Module):
    ends = ends_of(model)
    for half, value in ((0, 3.0), (1, 5.0)):
        ends.point_to(half)
        for norm in model:
            norm.weight.data.fill_(value)
        ends.check("folder")
    ends.join()
    assert all(torch.equal(norm.weight, torch.tensor([[3.0, 5.0]] * 4)) for norm in model)


def test_an_end_that_lacks_a_value_is_refused(model: nn.Module):
    ends = ends_of(model)
    ends.point_to(1)
    model[0].weight.data.fill_(1.0)
    model[1].weight.data[:3] = 1.0
    with pytest.raises(MullError, match=r"folder does not give every value of 1\.weight"):
        ends.check("folder")


def test_what_is_read_into_no_parameter_is_refused(model: nn.Module):
    model[0].register_buffer("scale", torch.ones(1))
    ends = ends_of(model)
    ends.point_to(0)
    for norm in model:
        norm.weight.data.fill_(1.0)
    model[0].scale.fill_(2.0)
    with pytest.raises(MullError, match=r"no λ per request for 0\.scale"):
        ends.check("folder")
