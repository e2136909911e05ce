"""Values of parameters written as few rules are the same values when the rules are applied."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mull.errors import MullError
from mull.merging.coefficients import Coefficients
from mull.merging.coefficients.varying import Varying, coefficients_of
from mull.merging.methods import make

NAMES = [
    "model.embed_tokens.weight", "model.norm.weight", "lm_head.weight", "visual.blocks.0.attn.qkv.weight",
    "model.layers.0.norm.weight", "odd[0].name*",
    *(f"model.layers.{layer}.self_attn.{x}_proj.weight" for layer in range(3) for x in "qk"),
    *(f"model.layers.{layer}.self_attn.norm.weight" for layer in range(3)),
    *(f"model.layers.{layer}.mlp.experts.{x}.up_proj.weight" for layer in (1, 2) for x in range(2)),
    *(f"model.layers.{layer}.input_layernorm.weight" for layer in range(3)),
]  # fmt: skip


@given(st.lists(st.sampled_from([0.0, 0.25, -1.5, 3.0]), min_size=len(NAMES), max_size=len(NAMES)))
def test_rules_give_back_the_values_that_they_were_made_of(numbers: list[float]) -> None:
    values = dict(zip(NAMES, numbers, strict=True))
    assert coefficients_of(values).resolve(NAMES) == values


def test_what_one_rule_can_say_is_one_rule() -> None:
    by_layer = {"model.layers.0": 0.1, "model.layers.1": 0.2, "model.layers.2": 0.3}
    values = {name: by_layer.get(name[:14], 0.5) if "self_attn" in name else 0.5 for name in NAMES}
    values |= {"lm_head.weight": 0.9, "visual.blocks.0.attn.qkv.weight": 0.5}
    found = coefficients_of(values)
    assert found.resolve(NAMES) == values and found.default == 0.5 and not found.extrapolate
    assert [(rule.lam, rule.modules) for rule in found.rules if rule.modules] == [(0.9, ("lm_head",))]
    named = [rule for rule in found.rules if rule.name]  # the vision tower's attention has its own value
    assert {rule.lam for rule in named} == {(0.1, 0.2, 0.3)} and len(named) == 3


def test_many_experts_of_which_each_second_differs_are_one_rule() -> None:
    names = [f"model.layers.{layer}.mlp.experts.{x}.up_proj.weight" for layer in range(8) for x in range(64)]
    values = {name: x % 2 / 2 for x, name in enumerate(names)}
    found = coefficients_of(values)
    assert len(found.rules) == 1 and found.resolve(names) == values


def test_a_method_has_its_own_parameters_for_each_tensor() -> None:
    half, ffn = Coefficients.scalar(0.5), coefficients_of({name: 0.2 if "mlp" in name else 0.7 for name in NAMES})
    varying = Varying((("density", (half, ffn)), ("weights", (half, half))))
    methods = varying.methods(make("ties", {"normalize": False}), NAMES, 2)
    for name in NAMES:
        density = (0.5, 0.2 if "mlp" in name else 0.7)
        assert methods[name] == make("ties", {"normalize": False, "density": density, "weights": (0.5, 0.5)})
    assert len({id(method) for method in methods.values()}) == 2


@pytest.mark.parametrize(
    ("method", "parameter", "values", "message"),
    [
        ("ties", "density", (0.5,), "density is given for 1 of 2 models"),
        ("ties", "normalize", (0.5, 0.5), "no parameter 'normalize' for each model"),
        ("slerp", "density", (0.5, 0.5), "no parameter 'density' for each model.* It has none"),
        ("ties", "density", (0.5, 0.0), r"model.embed_tokens.weight: density must lie in \(0, 1\]"),
    ],
)
def test_a_parameter_that_cannot_vary_is_refused(
    method: str, parameter: str, values: tuple[float, ...], message: str
) -> None:
    varying = Varying(((parameter, tuple(map(Coefficients.scalar, values))),))
    with pytest.raises(MullError, match=message):
        varying.methods(make(method), NAMES, 2)
