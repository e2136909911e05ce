"""The command line of vLLM and its environment; needs no vLLM."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest

from mull.checkpoints.pair import Pair
from mull.engines.vllm import versions
from mull.errors import MullError
from mull.serving.vllm import launch
from mull.serving.vllm.settings import VARIABLE, Settings


@pytest.fixture
def vllm(monkeypatch):
    """As if vLLM were installed."""
    monkeypatch.setattr(versions, "check", lambda: "0.32.0")


def command(extra=(), environment=None, key=None, settings=None):
    return launch.command(
        Pair.built_in(), settings or Settings(lam=0.5), name="pair", host="::1", port=8001, key=key, extra=extra,
        environment={} if environment is None else environment,
    )  # fmt: skip


def test_both_ends_and_the_parser_are_named(vllm):
    arguments = command(extra=["--tensor-parallel-size", "2"]).arguments
    pair = Pair.built_in()
    values = dict(pairwise(arguments))
    assert str(pair.thinking.folder) in arguments and arguments[-2:] == ["--tensor-parallel-size", "2"]
    assert values["--load-format"] == values["--quantization"] == values["--reasoning-parser"] == "mull"
    ends = json.loads(values["--model-loader-extra-config"])
    assert ends == {"instruct": str(pair.instruct.folder), "thinking": str(pair.thinking.folder), "donor": "thinking"}
    assert (values["--host"], values["--port"], values["--served-model-name"]) == ("::1", "8001", "pair")


def test_the_key_is_in_the_environment_only(vllm):
    found = command(key="secret", environment={"PATH": "/bin"})
    assert found.environment["VLLM_API_KEY"] == "secret" and found.environment["PATH"] == "/bin"
    assert not any("secret" in each for each in found.arguments)


def test_other_plugins_stay_as_they_were(vllm, monkeypatch):
    assert command(environment={"VLLM_PLUGINS": "a, b"}).environment["VLLM_PLUGINS"] == "a,b,mull"
    assert command(environment={"VLLM_PLUGINS": "mull"}).environment["VLLM_PLUGINS"] == "mull"

    class Plugin:
        name = "their-platform"

    monkeypatch.setattr(launch, "entry_points", lambda group: [Plugin] if "platform" in group else [])
    assert command().environment["VLLM_PLUGINS"] == "their-platform,mull"


@pytest.mark.parametrize(
    "extra", [["--quantization", "fp8"], ["--port=1"], ["--reasoning_parser", "qwen3"], ["-q", "x"]]
)
def test_what_is_set_already_is_refused(vllm, extra):
    with pytest.raises(MullError, match="cannot be given to vLLM here"):
        command(extra=extra)


def test_without_vllm_it_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(versions, "installed", lambda: None)
    with pytest.raises(MullError, match="vLLM is not installed here"):
        command()


def test_settings_arrive(vllm):
    settings = Settings(lam=None, head="/h", estimator="pref", run="/r", hosts=("a", "b"), playground=False)
    assert Settings.read(command(settings=settings).environment) == settings
    assert Settings.read({}) == Settings()
    for wrong in ("{", "[]", '{"other": 1}', '{"hosts": 3}'):
        with pytest.raises(MullError, match=VARIABLE):
            Settings.read({VARIABLE: wrong})
