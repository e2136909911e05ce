import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mull.errors import MullError
from mull.merging.coefficients import Coefficients, Gradient, Rule, check_lambda, parse_lambdas, parse_layers

PARTS = ("self_attn.q_norm", "mlp.up_proj", "input_layernorm")
NAMES = [
    "model.embed_tokens.weight",
    *(f"model.layers.{layer}.{part}.weight" for layer in range(3) for part in PARTS),
    "model.norm.weight",
]


def test_a_scalar_reaches_every_parameter() -> None:
    assert Coefficients.scalar(0.8).resolve(NAMES) == dict.fromkeys(NAMES, 0.8)


def test_layers_and_modules_leave_the_rest_at_the_instruct() -> None:
    lams = Coefficients.only(0.8, layers=(1, 2), modules=["attention"]).resolve(NAMES)
    assert {n for n, lam in lams.items() if lam} == {
        "model.layers.1.self_attn.q_norm.weight",
        "model.layers.2.self_attn.q_norm.weight",
    }
    lams = Coefficients.only(0.8, modules=["norm"]).resolve(NAMES)
    assert {n for n, lam in lams.items() if lam} == {
        n for n in NAMES if n.endswith("norm.weight") and "q_norm" not in n
    }
    lams = Coefficients.only(0.8, layers=(0, 0)).resolve(NAMES)
    assert {n for n, lam in lams.items() if lam} == {n for n in NAMES if ".layers.0." in n}


def test_per_layer_values_and_the_last_rule_that_matches() -> None:
    lams = Coefficients.per_layer([0.1, 0.2, 0.3], rest=1.0).resolve(NAMES)
    assert lams["model.layers.2.mlp.up_proj.weight"] == 0.3
    assert lams["model.norm.weight"] == 1.0
    rules = (Rule(0.5), Rule(0.7, modules=("ffn",)), Rule(0.9, layers=(2, 2)))
    lams = Coefficients(0.0, rules).resolve(NAMES)
    assert [lams[f"model.layers.{layer}.mlp.up_proj.weight"] for layer in range(3)] == [0.7, 0.7, 0.9]
    assert lams["model.norm.weight"] == 0.5


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Coefficients.only(0.8, layers=(1, 3)).resolve(NAMES), "0 to 2"),
        (lambda: Coefficients.only(0.8, layers=(2, 1)), "empty"),
        (lambda: Coefficients.only(0.8, modules=["lm_head"]).resolve(NAMES), "no parameter matches modules lm_head"),
        (lambda: Coefficients.only(0.8, modules=["atention"]), "id you mean 'attention'"),
        (lambda: Coefficients.only(0.8, modules=["xyz"]), "nown: attention"),
        (lambda: Coefficients.only(0.8, modules=[]), "matches nothing"),
        (lambda: Coefficients.per_layer([]), "matches nothing"),
        (lambda: Coefficients.per_layer([0.1, 0.2]).resolve(NAMES), "model of 3 layers"),
        (lambda: Coefficients.scalar(1.3), r"\[0, 1\], got 1.3"),
        (lambda: Coefficients.per_layer([0.1, -0.2, 0.3]), "got -0.2"),
        (lambda: Coefficients.scalar(float("nan"), extrapolate=True), "finite"),
        (lambda: Coefficients.scalar(float("inf"), extrapolate=True), "finite"),
    ],
)
def test_each_mistake_is_named(make, said: str) -> None:
    with pytest.raises(MullError, match=said):
        make()


def test_extrapolation_is_on_purpose() -> None:
    assert Coefficients.scalar(1.3, extrapolate=True).resolve(["a"]) == {"a": 1.3}
    check_lambda(-2, extrapolate=True)


@given(st.floats(0, 1), st.lists(st.floats(0, 1), min_size=1, max_size=3))
def test_there_and_back_through_json(lam: float, lams: list[float]) -> None:
    rules = (Rule(lam, (0, 1), ("ffn", "norm")), Rule(tuple(lams)), Rule(0.5))
    coefficients = Coefficients(lam, rules)
    assert Coefficients.from_json(json.loads(json.dumps(coefficients.to_json()))) == coefficients


def test_what_older_versions_stored_still_loads_and_is_stored_the_same() -> None:
    stored = {
        "default": 0.0,
        "rules": [
            {"lambda": 0.8, "layers": [12, 35], "modules": ["ffn"]},
            {"lambda": [0.1, 0.2], "layers": None, "modules": None},
        ],
        "extrapolate": False,
    }
    coefficients = Coefficients.from_json(stored)
    assert coefficients == Coefficients(0.0, (Rule(0.8, (12, 35), ("ffn",)), Rule((0.1, 0.2))))
    assert json.loads(json.dumps(coefficients.to_json())) == stored


@given(st.floats(0, 1), st.floats(0, 1))
def test_labels_tell_lambdas_apart(left: float, right: float) -> None:
    labels = [Coefficients.scalar(lam).label for lam in (left, right)]
    assert (labels[0] == labels[1]) == (left == right)
    assert float(labels[0]) == left


def test_labels_read_well() -> None:
    assert [Coefficients.scalar(lam).label for lam in (0, 1, 0.8, 0.45, 1.0, -0.0)] == [
        "0",
        "1",
        "0.8",
        "0.45",
        "1",
        "0",
    ]
    assert Coefficients.only(0.8, layers=(12, 35), modules=["ffn"]).label == "0.8 on modules ffn of layers 12-35"
    assert Coefficients.only(0.8, layers=(7, 7)).label == "0.8 on layers 7"
    assert Coefficients.only(0.8, layers=((24, 35), (0, 11))).label == "0.8 on layers 0-11,24-35"
    rules = (Rule(Gradient(0.2, 0.9)), Rule(1, name="*.mlp.*"), Rule(0.5, (0, 3), name="re:.*norm.*"))
    assert Coefficients(0.0, rules).label == (
        "0.2→0.9 on all layers; 1 on the name '*.mlp.*'; 0.5 on layers 0-3 named 're:.*norm.*'"
    )
    assert Coefficients.per_layer([0, 0.25], rest=1).label == "per layer 0, 0.25 on all parameters, else 1"


@pytest.mark.parametrize(
    ("text", "lams"),
    [
        ("0:1:0.25", [0, 0.25, 0.5, 0.75, 1]),
        ("0:1:0.1", [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1]),
        ("0:0.9:0.3", [0, 0.3, 0.6, 0.9]),
        ("0.8,0,0.4, 0.4", [0, 0.4, 0.8]),
        ("0:0.4:0.2,1", [0, 0.2, 0.4, 1]),
        ("0.5", [0.5]),
    ],
)
def test_lists_and_ranges_of_lambda(text: str, lams: list[float]) -> None:
    assert parse_lambdas(text) == lams


@pytest.mark.parametrize(
    "text", ["", "a", "0:1", "0:1:0", "1:0:0.1", "0:1:1e-9", "inf:1:0.1", "nan:1:0.1", "0,,1", "0:1:0.5:2"]
)
def test_unreadable_lambdas(text: str) -> None:
    with pytest.raises(MullError, match="cannot read"):
        parse_lambdas(text)


def test_lambdas_beyond_the_ends() -> None:
    with pytest.raises(MullError, match="`mull merge --extrapolate` and `mull sweep --extrapolate`"):
        parse_lambdas("0:2:1")
    assert parse_lambdas("-1:2:1", extrapolate=True) == [-1, 0, 1, 2]


def test_layer_ranges() -> None:
    assert parse_layers("12-35") == parse_layers(" 12 : 35 ") == (12, 35)
    assert parse_layers("7") == (7, 7)
    assert parse_layers("24-35, 0-11") == ((0, 11), (24, 35))
    assert parse_layers("0-11,12-35,3") == (0, 35)
    for text in ("", "a", "-3", "1-2-3", "1.5", "1-2,", "1,,2"):
        with pytest.raises(MullError, match="FIRST-LAST"):
            parse_layers(text)


def test_coefficients_that_would_overflow_weights_are_refused() -> None:
    for lam in (1e308, -2e6, 10**400):
        with pytest.raises(MullError, match="weights would overflow"):
            Coefficients.scalar(lam, extrapolate=True)
    assert Coefficients.scalar(-1e6, extrapolate=True).default == -1e6


def test_of_several_rules_the_faulty_one_is_named() -> None:
    good, beyond = Rule(0.5, layers=(0, 1)), Rule(0.5, layers=(9, 9))
    names = ["model.layers.0.mlp.up_proj.weight", "model.layers.1.mlp.up_proj.weight"]
    with pytest.raises(MullError, match=r"^rule 2: layers 9 reach beyond"):
        Coefficients(0.0, (good, beyond)).decisions(names)
    with pytest.raises(MullError, match=r"^layers 9 reach beyond"):
        Coefficients(0.0, (beyond,)).decisions(names)
    with pytest.raises(MullError, match=r"^rule 2: lambda must lie"):
        Coefficients(0.0, (good, Rule(1.5, layers=(0, 1))))
