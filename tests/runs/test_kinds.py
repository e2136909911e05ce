"""A run's kind is what the verb that made it planned."""

import pytest

from mull.engines.base import Sampling
from mull.merging.coefficients import Coefficients
from mull.merging.coefficients.rules import Rule
from mull.runs.paper import studies
from mull.runs.paper.kinds import StudyKind, kind_of, lambda_of
from mull.runs.settings import Setting

NAMES = [
    f"model.layers.{layer}.{part}.weight"
    for layer in range(6)
    for part in ("self_attn.q_proj", "mlp.up_proj", "input_layernorm")
]


def plan(settings):
    return {"settings": {setting.label: setting.to_json() for setting in settings}}


@pytest.mark.parametrize(
    "settings, kind, lam",
    [
        ([Setting.of(Coefficients.scalar(lam)) for lam in (0, 0.5, 1)], StudyKind.sweep, None),
        ([Setting.of(Coefficients.scalar(0.0))], StudyKind.sweep, None),
        (studies.layer_settings(0.8, NAMES), StudyKind.layers, 0.8),
        (studies.module_settings(0.7, NAMES), StudyKind.modules, 0.7),
        (studies.decoding_settings(0.4, Sampling(), [0.6, 0.7], [0.8]), StudyKind.decoding, 0.4),
        (studies.decoding_settings(0, Sampling(), [0.6, 0.7], [0.8]), StudyKind.decoding, 0.0),
        (studies.backbone_settings(0.8, ["base", "hybrid"]), StudyKind.backbone, 0.8),
        (studies.comparison_settings([0, 1], base=True, hybrid=False), StudyKind.compare, None),
        (studies.comparison_settings([0.5], base=False, hybrid=False), StudyKind.compare, None),
        ([Setting.of(Coefficients.only(0.8, layers=(0, 2), modules=["ffn"]))], StudyKind.other, 0.8),
        ([Setting.of(Coefficients.per_layer([0.1, 0.2]))], StudyKind.other, None),
        ([Setting.of(Coefficients(0.0, (Rule(0.8, (0, 1)), Rule(0.8, (4, 5)))))], StudyKind.other, 0.8),
        (
            [*studies.layer_settings(0.8, NAMES), *studies.module_settings(0.8, NAMES)],
            StudyKind.other,
            0.8,
        ),
    ],
)
def test_kind_of_each_study(settings, kind, lam):
    assert kind_of(plan(settings)) == kind
    if kind not in (StudyKind.sweep, StudyKind.compare):
        assert lambda_of(plan(settings)) == lam


def test_a_sweep_of_servers_is_a_sweep():
    record = plan([Setting.of(Coefficients.scalar(lam)) for lam in (0, 1)]) | {"models": {"0": {"model": "a"}}}
    assert kind_of(record) == StudyKind.sweep
