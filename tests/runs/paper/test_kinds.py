"""The λ of an ablation is read off its settings."""

import pytest

from mull.engines.base import Sampling
from mull.merging.coefficients import Coefficients
from mull.merging.coefficients.rules import Rule
from mull.runs.paper import studies
from mull.runs.paper.kinds import lambda_of
from mull.runs.settings import Setting

NAMES = [
    f"model.layers.{layer}.{part}.weight"
    for layer in range(6)
    for part in ("self_attn.q_proj", "mlp.up_proj", "input_layernorm")
]


def plan(settings):
    return {"settings": {setting.label: setting.to_json() for setting in settings}}


@pytest.mark.parametrize(
    "settings, lam",
    [
        (studies.layer_settings(0.8, NAMES), 0.8),
        (studies.module_settings(0.7, NAMES), 0.7),
        (studies.decoding_settings(0.4, Sampling(), [0.6, 0.7], [0.8]), 0.4),
        (studies.decoding_settings(0, Sampling(), [0.6, 0.7], [0.8]), 0.0),
        (studies.backbone_settings(0.8, ["base", "hybrid"]), 0.8),
        ([Setting.of(Coefficients.only(0.8, layers=(0, 2), modules=["ffn"]))], 0.8),
        ([Setting.of(Coefficients.per_layer([0.1, 0.2]))], None),
        ([Setting.of(Coefficients(0.0, (Rule(0.8, (0, 1)), Rule(0.8, (4, 5)))))], 0.8),
        (
            [*studies.layer_settings(0.8, NAMES), *studies.module_settings(0.8, NAMES)],
            0.8,
        ),
    ],
)
def test_lambda_of_each_study(settings, lam):
    assert lambda_of(plan(settings)) == lam
