"""The paper's studies as settings: the right parts of the model, the right methods, labels that tell them apart."""

import pytest

from mull.checkpoints.names import layer_of, module_kind
from mull.engines.base import Sampling
from mull.errors import MullError
from mull.runs.paper.studies import (
    backbone_settings,
    comparison_settings,
    decoding_settings,
    layer_settings,
    module_settings,
)

NAMES = [
    "model.embed_tokens.weight",
    "model.norm.weight",
    *(
        f"model.layers.{layer}.{part}.weight"
        for layer in range(36)
        for part in ("self_attn.q_proj", "mlp.up_proj", "input_layernorm")
    ),
]


def lams(setting):
    return setting.recipe.coefficients.resolve(NAMES)


def test_layers_are_the_papers_thirds_and_two_thirds():
    settings = layer_settings(0.8, NAMES)
    assert [s.label for s in settings] == [
        "all layers", "layers 0-11", "layers 12-23", "layers 24-35", "layers 0-23", "layers 12-35",
    ]  # fmt: skip
    assert set(lams(settings[0]).values()) == {0.8}
    for name, lam in lams(settings[2]).items():
        layer = layer_of(name)
        assert lam == (0.8 if layer is not None and 12 <= layer <= 23 else 0)
    assert all(s.lam is None for s in settings[1:])


def test_ranges_of_ones_own_and_models_without_thirds():
    assert [s.label for s in layer_settings(0.5, NAMES, [(3, 3)])] == ["all layers", "layers 3-3"]
    with pytest.raises(MullError, match="no thirds"):
        layer_settings(0.5, NAMES[:8])


def test_modules_only_and_without():
    settings = {s.label: s for s in module_settings(0.8, NAMES)}
    assert settings.keys() == {"all modules"} | {
        f"{way} {kind}" for way in ("only", "without") for kind in ("attention", "ffn", "norm", "embedding")
    }
    for name, lam in lams(settings["only ffn"]).items():
        assert lam == (0.8 if module_kind(name) == "ffn" else 0)
    for name, lam in lams(settings["without ffn"]).items():
        assert lam == (0 if module_kind(name) == "ffn" else 0.8)


def test_decoding_is_a_grid_at_one_lambda():
    settings = decoding_settings(0.4, Sampling(max_tokens=7), [0.6, 0.7], [0.8, 0.95])
    assert [(s.sampling.temperature, s.sampling.top_p) for s in settings] == [
        (0.6, 0.8), (0.6, 0.95), (0.7, 0.8), (0.7, 0.95),
    ]  # fmt: skip
    assert all(s.sampling.max_tokens == 7 and s.lam is None for s in settings)
    assert len({str(s.to_json()) for s in settings}) == 4


def test_backbones_take_the_instructs_place():
    plain, base = backbone_settings(0.8, ["base"])
    assert plain.recipe.models == ("instruct", "thinking")
    assert base.recipe.models == ("base", "thinking") and base.lam is None


def test_a_comparison_has_what_its_bases_allow():
    labels = [s.label for s in comparison_settings([0.0, 0.8, 1.0], base=False, hybrid=False)]
    assert labels == ["0", "0.8", "1", "slerp 0.5", "slerp 0.8"]
    settings = {s.label: s for s in comparison_settings([0.8], base=True, hybrid=True)}
    assert {"ta", "ties", "dare", "ta-base", "ties-base", "dare-base"} < settings.keys()
    assert settings["ta"].recipe.base == "hybrid" and settings["ta-base"].recipe.base == "base"
    assert settings["ties"].recipe.coefficients.default == 0.5
    assert settings["ta-base"].recipe.coefficients.default == 0.7


def test_a_plain_lambda_is_recorded_as_it_always_was():
    (setting,) = comparison_settings([0.8], base=False, hybrid=False)[:1]
    assert setting.to_json() == setting.recipe.coefficients.to_json()
