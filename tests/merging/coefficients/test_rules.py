"""Rules against a second, naive implementation, and every mistake by its name."""

import fnmatch
import itertools
import pickle
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mull.errors import MullError
from mull.merging.coefficients import Coefficients
from mull.merging.coefficients.explain import Assignment, explain, shadowed
from mull.merging.coefficients.rules import Gradient, Rule

PARTS = {
    "self_attn.q_proj": {"attention"},
    "linear_attn.out_proj": {"attention", "linear_attention"},
    "mlp.gate": {"ffn", "router"},
    "mlp.experts.1.up_proj": {"ffn", "experts"},
    "mlp.shared_expert.up_proj": {"ffn", "shared_experts"},
    "input_layernorm": {"norm"},
}
MODEL = {
    "model.embed_tokens.weight": (None, {"embedding"}),
    **{f"model.layers.{i}.{part}.weight": (i, kinds) for i in range(6) for part, kinds in PARTS.items()},
    "mtp.layers.0.mlp.gate.weight": (None, {"ffn", "router", "mtp"}),
    "model.norm.weight": (None, {"norm"}),
}
NAMES = list(MODEL)

lams = st.floats(0, 1)
ranges = st.tuples(st.integers(0, 5), st.integers(0, 5)).map(lambda pair: (min(pair), max(pair)))
layers = st.none() | ranges | st.lists(ranges, min_size=1, max_size=3).map(tuple)
modules = st.none() | st.lists(st.sampled_from(sorted({"vision", *set().union(*PARTS.values())})), min_size=1).map(
    tuple
)
patterns = st.none() | st.sampled_from(
    ["*", "*.mlp.*", "model.layers.[0-2].*", "model.norm.weight", "re:.*[.](gate|q_proj)[.].*", "re:model[.].*", "*x*"]
)


@st.composite
def rules(draw) -> Rule:
    selectors = draw(layers), draw(modules), draw(patterns)
    length = len(Rule(0, selectors[0]).ranges) and sum(high - low + 1 for low, high in Rule(0, selectors[0]).ranges)
    lam = draw(lams | st.builds(Gradient, lams, lams) | st.tuples(*[lams] * (length or 6)))
    return Rule(lam, *selectors)


def naive(rule: Rule, wanted: str) -> float | None:
    """λ of one parameter by one rule, the long way round."""
    pairs = [] if rule.layers is None else [rule.layers] if isinstance(rule.layers[0], int) else list(rule.layers)
    listed = sorted({i for low, high in pairs for i in range(low, high + 1)}) if pairs else list(range(6))
    chosen = {}
    for name, (layer, kinds) in MODEL.items():
        fits = layer in listed or (not pairs and isinstance(rule.lam, float))
        fits &= rule.modules is None or bool(kinds & set(rule.modules))
        if rule.name and rule.name.startswith("re:"):
            fits &= bool(re.match(f"^(?:{rule.name[3:]})$", name))
        elif rule.name:
            fits &= fnmatch.fnmatch(name, rule.name)
        if fits:
            chosen[name] = layer
    if wanted not in chosen:
        return None
    if isinstance(rule.lam, Gradient):
        low, high = min(chosen.values()), max(chosen.values())
        share = (chosen[wanted] - low) / (high - low) if high > low else 0
        return rule.lam.first + share * (rule.lam.last - rule.lam.first)
    return rule.lam[listed.index(chosen[wanted])] if isinstance(rule.lam, tuple) else rule.lam


@given(lams, st.lists(rules(), max_size=4))
def test_the_last_rule_that_matches_decides(default: float, chosen: list[Rule]) -> None:
    matching = [rule for rule in chosen if any(naive(rule, name) is not None for name in NAMES)]
    coefficients = Coefficients(default, tuple(chosen))
    if len(matching) < len(chosen):
        with pytest.raises(MullError, match="no parameter matches"):
            coefficients.resolve(NAMES)
        coefficients = Coefficients(default, tuple(matching))
    resolved = coefficients.resolve(NAMES)
    assert list(resolved) == NAMES
    for name, lam in resolved.items():
        values = [value for rule in matching if (value := naive(rule, name)) is not None]
        assert lam == pytest.approx(values[-1] if values else default, abs=1e-11)
        assert 0 <= lam <= 1


@given(lams, st.lists(rules(), max_size=4))
def test_an_explanation_counts_every_tensor_once(default: float, chosen: list[Rule]) -> None:
    matching = tuple(rule for rule in chosen if any(naive(rule, name) is not None for name in NAMES))
    coefficients = Coefficients(default, matching)
    rows, resolved = explain(coefficients, NAMES), coefficients.resolve(NAMES)
    assert sum(row.tensors for row in rows) == len(NAMES)
    for row in rows:
        assert row.tensors <= sum(lam == row.lam for lam in resolved.values())
    for i in shadowed(coefficients, rows):
        without = Coefficients(default, matching[:i] + matching[i + 1 :])
        assert without.resolve(NAMES) == resolved


def test_an_explanation_row_by_row() -> None:
    rules = (Rule(0.1, modules=("router",)), Rule(0.5, ((0, 1), (4, 5)), ("ffn",)), Rule(0.7, modules=("ffn",)))
    coefficients = Coefficients(0.0, (*rules, Rule(Gradient(0.2, 0.4), (3, 5), name="*.input_layernorm.*")))
    rows = explain(coefficients, NAMES)
    assert rows == [
        Assignment(0.0, None, 17, "0-5", 2, ("attention", "norm", "embedding", "linear_attention")),
        Assignment(0.7, 2, 19, "0-5", 1, ("ffn", "experts", "shared_experts", "router", "mtp")),
        Assignment(0.2, 3, 1, "3", 0, ("norm",)),
        Assignment(0.3, 3, 1, "4", 0, ("norm",)),
        Assignment(0.4, 3, 1, "5", 0, ("norm",)),
    ]
    assert shadowed(coefficients, rows) == [0, 1]


@given(lams, lams, st.integers(0, 50), st.integers(0, 50))
def test_a_gradient_is_exact_at_its_ends_and_never_turns_back(first: float, last: float, low: int, more: int) -> None:
    span = (low, low + more)
    values = [Gradient(first, last).at(layer, span) for layer in range(low, low + more + 1)]
    assert values[0] == first
    assert values[-1] == (last if more else first)
    assert values == sorted(values, reverse=last < first)


def test_a_gradient_spans_the_layers_that_are_selected() -> None:
    lams = Coefficients(0.0, (Rule(Gradient(0.2, 0.9), (2, 5), ("experts",)),)).resolve(NAMES)
    assert [lams[f"model.layers.{i}.mlp.experts.1.up_proj.weight"] for i in range(6)] == pytest.approx(
        [0, 0, 0.2, 0.433333333333, 0.666666666667, 0.9], abs=1e-12
    )
    sparse = [name for name in NAMES if ".linear_attn." not in name or ".layers.0." not in name]
    lams = Coefficients(0.0, (Rule(Gradient(0, 1), modules=("linear_attention",)),)).resolve(sparse)
    assert [lams[f"model.layers.{i}.linear_attn.out_proj.weight"] for i in range(1, 6)] == [0, 0.25, 0.5, 0.75, 1]


def test_values_by_layer_go_to_the_layers_named() -> None:
    lams = Coefficients(1.0, (Rule((0.1, 0.2, 0.3), ((4, 5), (1, 1))),)).resolve(NAMES)
    assert [lams[f"model.layers.{i}.mlp.gate.weight"] for i in range(6)] == [1, 0.1, 1, 1, 0.2, 0.3]


def test_names_are_matched_as_a_whole() -> None:
    assert not Rule(1, name="mlp").matches("model.layers.1.mlp.gate.weight")
    assert not Rule(1, name="re:mlp").matches("model.layers.1.mlp.gate.weight")
    assert not Rule(1, name="re:model|.*gate").matches("model.layers.1.mlp.gate.weight")
    assert Rule(1, name="model.layers.1.mlp.gate.weight").matches("model.layers.1.mlp.gate.weight")


def test_ranges_that_mean_the_same_are_the_same_rule() -> None:
    for first, second in itertools.pairwise([(0, 35), ((0, 35),), ((12, 35), (0, 11)), ((0, 20), (5, 35))]):
        assert Rule(0.5, first) == Rule(0.5, second)


def test_rules_travel_between_processes() -> None:
    rule = Rule(Gradient(0, 1), (0, 3), ("ffn",), "re:.*mlp.*")
    assert pickle.loads(pickle.dumps(rule)) == rule


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ({"name": "model.layer.*.mlp.gate"}, r"here: model\.layers\.\*\.mlp\.gate\.weight, "),
        ({"name": "re:q_proj"}, r"the name 're:q_proj'. A pattern covers the whole name"),
        ({"name": "*.linear_attn.*", "modules": ("ffn",)}, "in layers 0-5, of the kinds attention, linear_attention"),
        ({"modules": ("mtp",), "layers": (0, 1)}, "odules mtp are in no layer"),
        ({"modules": ("vision",)}, "kinds attention, ffn, norm, embedding, experts, .*mtp$"),
        ({"modules": ("router",), "layers": ((0, 1), (4, 6))}, "layers 0-1,4-6 reach beyond .* 6 layers"),
        ({"lam": (0.1, 0.2), "layers": (0, 2)}, "2 per-layer values for layers 0-2. Give 3"),
        ({"lam": Gradient(0, 1), "modules": ("embedding",)}, "reaches only what lies in layers"),
    ],
)
def test_a_rule_that_matches_nothing_says_what_there_is(rule: dict, said: str) -> None:
    with pytest.raises(MullError, match=said):
        Coefficients(0.0, (Rule(**{"lam": 0.5, **rule}),)).resolve(NAMES)


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ({"modules": ("expert",)}, "did you mean 'experts'"),
        ({"layers": ()}, "matches nothing"),
        ({"layers": ((0, 3), (5, 4))}, "5-4 is empty"),
        ({"name": "re:("}, "no regular expression"),
        ({"name": "re:"}, "is no parameter's name"),
        ({"name": ""}, "is no parameter's name"),
        ({"name": "*.mlp.* "}, "is no parameter's name"),
        ({"lam": "0.5"}, "cannot be '0.5'"),
        ({"lam": True}, "cannot be True"),
        ({"lam": Gradient(0.5, "1")}, "a number, a tuple of numbers or a Gradient"),  # type: ignore[arg-type]
    ],
)
def test_a_rule_that_cannot_be_is_refused_at_once(rule: dict, said: str) -> None:
    with pytest.raises(MullError, match=f"(?i){said}"):
        Rule(**{"lam": 0.5, **rule})


def test_lambda_outside_its_range_is_found_in_every_form() -> None:
    for lam in (1.5, (0.5, 1.5), Gradient(0.5, 1.5)):
        with pytest.raises(MullError, match=r"got 1\.5"):
            Coefficients(0.0, (Rule(lam),))
        assert Coefficients(0.0, (Rule(lam),), extrapolate=True)
