"""Hints: a near-miss name, a word of other tools, or the list of what is there."""

import pytest

from mull.benchmarks.graders import make_grader
from mull.errors import MullError, nearest
from mull.merging.coefficients.rules import Rule
from mull.merging.coefficients.selectors import parse_rule
from mull.merging.methods import make

from .running import mull


def test_the_nearest_name_or_all_of_them():
    assert nearest("ifevl", ["ifeval", "gpqa"]) == "did you mean 'ifeval'?"
    assert nearest("IF-Eval", ["ifeval", "gpqa"]) == "did you mean 'ifeval'?"
    assert nearest("zzz", ["b", "a"]) == "known: a, b"
    assert nearest("x", ["one", "two"], {"x": ("one", "two")}) == "did you mean 'one' or 'two'?"
    assert nearest("x", ["two"], {"x": "one"}) == "known: two", "what is not there is not offered"


@pytest.mark.parametrize(
    ("word", "kind"),
    [
        ("mlp", "ffn"),
        ("attn", "attention"),
        ("self_attn", "attention"),
        ("lm-head", "lm_head"),
        ("head", "lm_head"),
        ("embed", "embedding"),
        ("embed_tokens", "embedding"),
        ("layernorm", "norm"),
        ("moe", "experts"),
    ],
)
def test_words_for_modules_lead_to_their_kinds(word, kind):
    with pytest.raises(MullError, match=f"Did you mean '{kind}'"):
        Rule(0.5, modules=(word,))
    with pytest.raises(MullError, match=f"Did you mean '{kind}'"):
        parse_rule(f"{word}=0.5")


@pytest.mark.parametrize(("word", "name"), [("lerp", "mi"), ("task-arithmetic", "ta"), ("DARE-TIES", "dare_ties")])
def test_words_for_methods_lead_to_their_names(word, name):
    with pytest.raises(MullError, match=f"Did you mean '{name}'"):
        make(word)


@pytest.mark.parametrize(("word", "name"), [("numeric", "integer"), ("mcq", "letter"), ("exact_match", "exact")])
def test_words_for_graders_lead_to_their_names(word, name):
    with pytest.raises(MullError, match=f"Did you mean '{name}'"):
        make_grader(word)


@pytest.mark.parametrize(
    ("word", "said"),
    [("interpolate", "Did you mean 'merge'?"), ("Eval", "Did you mean 'sweep'?"), ("zzz", "See mull --help.")],
)
def test_words_for_verbs_lead_to_their_names(word, said):
    done = mull(word)
    assert done.returncode == 2 and f"No such command '{word}'. {said}" in done.stderr
