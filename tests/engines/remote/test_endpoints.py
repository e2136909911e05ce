"""Which server answers for which λ: patterns, TOML files, and what is refused in them."""

import pytest

from mull.engines.remote.endpoints import Endpoints, Target
from mull.errors import MullError


def test_a_pattern_names_each_lambda_in_its_shortest_form():
    found = Endpoints.pattern("http://host:8000/v1/", "name@{lambda}", [0, 0.4, 1])
    assert found.targets == {
        "0": Target("http://host:8000/v1", "name@0"),
        "0.4": Target("http://host:8000/v1", "name@0.4"),
        "1": Target("http://host:8000/v1", "name@1"),
    }
    assert found.lambdas == [0, 0.4, 1]
    assert found.record() == {"models": {lam: {"model": f"name@{lam}"} for lam in ("0", "0.4", "1")}}


def test_the_place_may_stand_in_the_url():
    found = Endpoints.pattern("https://host-{lambda}/v1", "name", [0, 0.5])
    assert [target.url for target in found.targets.values()] == ["https://host-0/v1", "https://host-0.5/v1"]


@pytest.mark.parametrize(
    ("url", "model", "message"),
    [
        ("http://host/v1", "name", "would ask the same model, 'name' at http://host/v1"),
        ("http://host/v1", "name@{lam}", "unknown placeholder {lam}"),
        ("host:8000/v1", "name@{lambda}", "'host:8000/v1' is no base URL"),
        ("ftp://host/v1", "name@{lambda}", "is no base URL"),
        ("http://host:port/v1", "name@{lambda}", "is no base URL"),
        ("http:///v1", "name@{lambda}", "is no base URL"),
        ("http://host/v1?key=1", "name@{lambda}", "is no base URL"),
        ("http://host/v1/chat/completions", "name@{lambda}", "Give http://host/v1"),
        ("http://host/v1", "", "has no name"),
    ],
)
def test_wrong_patterns(url, model, message):
    with pytest.raises(MullError) as error:
        Endpoints.pattern(url, model, [0, 1])
    assert message in str(error.value)


def test_a_key_in_a_url_is_refused_and_not_repeated():
    with pytest.raises(MullError) as error:
        Target("http://user:secret@host/v1", "name")
    assert "holds a user or a key" in str(error.value) and "secret" not in str(error.value)


def test_a_file_gives_each_lambda_its_own(tmp_path):
    path = tmp_path / "map.toml"
    path.write_text(
        'url = "http://a:1/v1"\n[[endpoint]]\nlambda = 1\nmodel = "t"\nurl = "http://b:2/v1"\n'
        'body = { reasoning_effort = "high" }\n[[endpoint]]\nlambda = 0.4\nmodel = "m"\n'
    )
    found = Endpoints.read(path, omit=["top_k"])
    assert list(found.targets) == ["0.4", "1"]
    assert found.targets["0.4"] == Target("http://a:1/v1", "m")
    assert found.record() == {
        "models": {"0.4": {"model": "m"}, "1": {"model": "t", "body": {"reasoning_effort": "high"}}},
        "omitted": ["top_k"],
    }
    assert list(found.only([1]).targets) == ["1"]
    with pytest.raises(MullError, match=r"λ = 0.5 has no endpoint. Known: 0.4, 1"):
        found.only([0.5])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("url = ", "is no TOML file"),
        ("", "it has no endpoints"),
        ("endpoint = 3", "endpoint must be an array, got 3. Write [[endpoint]] above each λ"),
        ("endpoint = []", "it has no endpoints"),
        ("endpoint = [3]", "endpoint must be a table, got 3"),
        ('[[endpoint]]\nlambda = 0\nmodel = "m"', "endpoint 1: url is missing"),
        ('[[endpoint]]\nlambda = 0\nurl = "http://a"', "endpoint 1: model is missing"),
        ('[[endpoint]]\nlambda = "0"\nurl = "http://a"\nmodel = "m"', "endpoint 1: lambda must be a number, got '0'"),
        ('[[endpoint]]\nurl = "http://a"\nmodel = "m"', "endpoint 1: lambda is missing. Write lambda = 0.4"),
        ('[[endpoint]]\nlambda = 2\nurl = "http://a"\nmodel = "m"', "lambda must lie in [0, 1]"),
        ('[[endpoint]]\nlamda = 0\nurl = "http://a"\nmodel = "m"', "Did you mean 'lambda'?"),
        ('[[endpoint]]\nlambda = 0\nurl = "http://a"\nmodel = "m"\nbody = 3', "body must be a table"),
        ('[[endpoint]]\nlambda = 0\nurl = "http://a"\nmodel = "m"\nbody = {x = inf}', "what JSON cannot"),
        ('[[endpoint]]\nlambda = 0\nurl = "http://a"\nmodel = "m"\nbody = {seed = 1}', "body sets 'seed'"),
        (2 * '[[endpoint]]\nlambda = 0\nurl = "http://a"\nmodel = "m"\n', "λ = 0 stands twice"),
    ],
)
def test_wrong_files_are_named(tmp_path, text, message):
    path = tmp_path / "map.toml"
    path.write_text(text)
    with pytest.raises(MullError) as error:
        Endpoints.read(path)
    assert message in str(error.value) and str(path) in str(error.value)


def test_only_some_fields_can_be_left_out():
    with pytest.raises(MullError, match=r"cannot leave out 'topk'. Did you mean 'top_k'"):
        Endpoints.pattern("http://host/v1", "name@{lambda}", [0], ["topk"])
