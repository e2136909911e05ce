"""Rules from flags and from TOML: the same object from both, and from JSON."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mull.errors import MullError
from mull.merging.coefficients import Coefficients
from mull.merging.coefficients.rules import SELECTORS, Gradient, Rule
from mull.merging.coefficients.selectors import format_rule, parse_rule
from mull.merging.coefficients.toml import load_coefficients

finite = st.floats(-2, 2)
ranges = st.tuples(st.integers(0, 99), st.integers(0, 9)).map(lambda pair: (pair[0], sum(pair)))
names = st.text("aλz019._*?[]-:|()+\\", min_size=1, max_size=12).map("model.{}".format)
rules = st.builds(
    Rule,
    finite | st.builds(Gradient, finite, finite) | st.lists(finite, min_size=1, max_size=5).map(tuple),
    st.none() | st.lists(ranges, min_size=1, max_size=3).map(tuple),
    st.none() | st.lists(st.sampled_from(SELECTORS), min_size=1, max_size=3).map(tuple),
    st.none() | names | st.sampled_from(["re:.*[.](q|k)_proj[.]weight", "re:model.layers.1{1,2}.*", "re:(?=x)x"]),
)


def toml(coefficients: Coefficients) -> str:
    lines = [f"default = {float(coefficients.default)!r}", "extrapolate = true"]
    for rule in coefficients.rules:
        lam = f'"{rule.lam.first!r}->{rule.lam.last!r}"' if isinstance(rule.lam, Gradient) else None
        lines += ["[[rule]]", f"lambda = {lam or (list(rule.lam) if isinstance(rule.lam, tuple) else rule.lam)}"]
        if rule.layers:
            lines.append(f'layers = "{",".join(f"{low}-{high}" for low, high in rule.ranges)}"')
        lines += [f"modules = {json.dumps(rule.modules)}"] if rule.modules else []
        lines += [f"name = {json.dumps(rule.name, ensure_ascii=False)}"] if rule.name else []
    return "\n".join(lines)


@given(finite, st.lists(rules, max_size=4).map(tuple))
def test_flags_toml_and_json_give_the_same_object(tmp_path_factory, default: float, chosen: tuple[Rule, ...]) -> None:
    coefficients = Coefficients(default, chosen, extrapolate=True)
    from_flags = Coefficients(default, extrapolate=True).then(parse_rule(format_rule(rule)) for rule in chosen)
    path = tmp_path_factory.getbasetemp() / "coefficients.toml"
    path.write_text(toml(coefficients), encoding="utf-8")
    from_json = Coefficients.from_json(json.loads(json.dumps(coefficients.to_json())))
    assert coefficients == from_flags == load_coefficients(path) == from_json
    assert coefficients.label == from_flags.label == from_json.label


@given(st.lists(rules, min_size=2, max_size=2))
def test_different_rules_have_different_labels(pair: list[Rule]) -> None:
    first, second = (Coefficients(0.5, (rule,), extrapolate=True) for rule in pair)
    assert (first.label == second.label) == (first == second)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("ffn=0.8", Rule(0.8, modules=("ffn",))),
        ("ffn, norm = 0.8", Rule(0.8, modules=("ffn", "norm"))),
        ("12-35=0.8", Rule(0.8, (12, 35))),
        ("7=0.8", Rule(0.8, (7, 7))),
        ("0-11,24-35=0.8", Rule(0.8, ((0, 11), (24, 35)))),
        ("layers:12-35,modules:ffn,norm=0.8", Rule(0.8, (12, 35), ("ffn", "norm"))),
        ("layers:12-35 modules:ffn=0.8", Rule(0.8, (12, 35), ("ffn",))),
        ("layers: 12-35, modules: ffn=0.8", Rule(0.8, (12, 35), ("ffn",))),
        ("experts 0-3=1", Rule(1, (0, 3), ("experts",))),
        ("model.layers.*.mlp.*=0.7", Rule(0.7, name="model.layers.*.mlp.*")),
        ("name:scale,layers:0-3=0.7", Rule(0.7, (0, 3), name="scale")),
        ("re:.*(?=a)a{1,2}=0.7", Rule(0.7, name="re:.*(?=a)a{1,2}")),
        ("all=0.2→0.9", Rule(Gradient(0.2, 0.9))),
        ("all = 0.2 -> 0.9", Rule(Gradient(0.2, 0.9))),
        ("all=-0.2->-0.9", Rule(Gradient(-0.2, -0.9))),
        ("0-2=0.1,0.2,0.3", Rule((0.1, 0.2, 0.3), (0, 2))),
        ("0-0=0.1,", Rule((0.1,), (0, 0))),
    ],
)
def test_what_a_flag_says(text: str, rule: Rule) -> None:
    assert parse_rule(text) == rule


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("ffn", "SELECTOR=VALUE"),
        ("=1", "SELECTOR=VALUE"),
        ("fnn=1", "mean 'ffn'"),
        ("ffn,nrom=1", "mean 'norm'"),
        ("layer:3=1", "mean 'layers'"),
        ("modules:mlp=1", "unknown module kind 'mlp'"),
        ("layers:a=1", "layer range 'a'"),
        ("ffn norm=1", "modules twice"),
        ("all ffn=1", "Leave out 'all'"),
        ("ffn=0.2-", "in quotes"),
        ("ffn=", "cannot read the value ''"),
        ("ffn=0.2->0.3->0.4", "cannot read the value"),
        ("ffn=0.1,,0.2", "cannot read the value"),
    ],
)
def test_a_flag_that_cannot_be_read(text: str, said: str) -> None:
    with pytest.raises(MullError, match=said):
        parse_rule(text)


def test_a_file_as_a_user_writes_it(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text(
        "default = 1\n[[rule]]\nlambda = 0.5\nlayers = 7\nmodules = 'ffn, norm'\n"
        "[[rule]]\nlambda = '0.2→0.9'\nname = '*.mlp.*'\n[[rule]]\nlambda = [0.1, 1]\nlayers = '0,5'\n"
    )
    assert load_coefficients(path) == Coefficients(
        1,
        (
            Rule(0.5, (7, 7), ("ffn", "norm")),
            Rule(Gradient(0.2, 0.9), name="*.mlp.*"),
            Rule((0.1, 1), ((0, 0), (5, 5))),
        ),
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("default = ", "is no TOML file"),
        ("", "default is missing"),
        ("defualt = 0.8", "unknown key 'defualt'. Did you mean 'default'"),
        ("default = '0.8'", "default must be a number"),
        ("default = true", "default must be a number, got True"),
        ("default = 1.5", "got 1.5"),
        ("default = 0\nextrapolate = 1", "extrapolate must be true or false"),
        ("default = 0\n[[rules]]\nlambda = 1", "mean 'rule'"),
        ("default = 0\n[rule]\nlambda = 1", r"write \[\[rule\]\]"),
        ("default = 0\n[[rule]]\nlam = 1", "rule 1: unknown key 'lam'. Did you mean 'lambda'"),
        ("default = 0\n[[rule]]\nlambda = 1\n[[rule]]\nlayers = 1", "rule 2: lambda is missing"),
        ("default = 0\n[[rule]]\nlambda = '0.5'", "only a gradient"),
        ("default = 0\n[[rule]]\nlambda = [true]", "lambda must be a number"),
        ("default = 0\n[[rule]]\nlambda = []", "matches nothing"),
        ("default = 0\n[[rule]]\nlambda = 1\nlayers = [12, 35]", 'write layers = "12-35"'),
        ("default = 0\n[[rule]]\nlambda = 1\nmodules = [1]", "modules must be a text, got 1"),
        ("default = 0\n[[rule]]\nlambda = 1\nmodules = 1", "modules must be a text or an array, got 1"),
        ("default = 0\n[[rule]]\nlambda = 1\nlayers = true", "layers must be a whole number or a text, got True"),
        ("default = 0\n[[rule]]\nlambda = 1\nmodules = ['mlps']", "rule 1: unknown module kind"),
        ("default = 0\n[[rule]]\nlambda = 1\nname = 're:('", "no regular expression"),
    ],
)
def test_a_file_that_cannot_be_read_is_named_with_the_rule(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "c.toml"
    path.write_text(text)
    with pytest.raises(MullError, match=f"(?i)c.toml.*{said}"):
        load_coefficients(path)


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(MullError, match="is no TOML file"):
        load_coefficients(path)
