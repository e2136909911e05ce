"""`mull sweep --endpoint` against mull's own server: the greedy texts of a local sweep with unrounded weights."""

import pytest

import mull.serving
from mull.runs.store import RunStore
from mull.serving.app import application
from mull.tiny import checkpoint_folder

from ..running import mull as command
from ..serving.live import running

ENDS = ["--instruct", str(checkpoint_folder("instruct")), "--thinking", str(checkpoint_folder("thinking"))]
SIZE = ("--lambdas", "0,0.4,1", "--questions", "4", "-k", "1", "--max-tokens", "300", "--temperature", "0")


@pytest.fixture(scope="module")
def url():
    service = mull.serving.open_service(device="cpu", lam=0.5)
    with running(application(service, close=service.backend.close)) as url:
        yield f"{url}/v1"


def samples(run):
    """Texts without the opening tag, which locally stands in the prompt, tokens, and what was made of them."""
    with RunStore.open(run) as store:
        return [
            (
                s.setting,
                s.question,
                s.text.removeprefix("<think>\n"),
                s.tokens,
                s.finish,
                s.thinking,
                s.answer,
                s.correct,
            )
            for s in store.samples()
        ]


@pytest.mark.parametrize("stream", [[], ["--stream"]])
def test_the_texts_are_those_of_a_local_unrounded_sweep(url, tmp_path, stream):
    remote = command(
        "sweep", "--endpoint", url, "--model-map", "mull@{lambda}", *SIZE, "--run", tmp_path / "remote", *stream
    )
    assert remote.returncode == 0, remote.stderr
    local = command("sweep", *ENDS, "--arithmetic", "unrounded", *SIZE, "--run", tmp_path / "local")
    assert local.returncode == 0, local.stderr
    assert samples(tmp_path / "remote") == samples(tmp_path / "local")
