"""`mull serve` before another server: the proxy as a process, and what does not go with it."""

from __future__ import annotations

import os
import re

import httpx2
import pytest

from mull.engines.vllm import versions
from mull.tiny import checkpoint_folder
from tests.running import mull, started
from tests.serving.behind import Behind
from tests.serving.live import free_port, running

PAIR = ("--instruct", checkpoint_folder("instruct"), "--thinking", checkpoint_folder("thinking"))
ASK = [{"role": "user", "content": "Add up 1 2 3 4."}]


@pytest.mark.parametrize("folders", [(), PAIR])
def test_a_proxy_serves_the_pair_by_its_levels(folders):
    behind = Behind("anything")
    with running(behind.app) as upstream:
        default = () if folders else ("--lambda", 0.25)
        arguments = ("serve", "--port", 0, "--upstream", upstream, "--name", "pair", *default, *folders)
        process = started(*arguments, env={**os.environ, "MULL_UPSTREAM_KEY": "theirs"})
        try:
            said = []
            for line in process.stderr:
                said.append(line)
                if found := re.search(r"(http://\S+)/v1, model 'pair'", line):
                    url = found[1]
                    break
            else:
                pytest.fail("".join(said))
            reply = httpx2.post(f"{url}/v1/chat/completions", json={"model": "pair", "messages": ASK}, timeout=60)
            told = reply.json()["mull"]
            assert told["source"].startswith("auto (") if folders else told["lambda"] == 0.25
            sent = behind.bodies[-1]
            assert sent["model"] == "anything" and sent["vllm_xargs"] == {"lambda": told["lambda"]}
            assert behind.headers[-1]["authorization"] == "Bearer theirs"
            page = httpx2.get(url).text
            assert "playground" in page.lower() and "theirs" not in page
            names = [model["id"] for model in httpx2.get(f"{url}/v1/models").json()["data"]]
            assert ("pair@auto" in names) == bool(folders)
        finally:
            process.kill()
            process.communicate()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--upstream", "http://gpu"), "--lambda auto needs the folders of both checkpoints"),
        (("--upstream", "http://gpu", "--lambda", "0.5", "--run", "x"), "--run needs the folders"),
        (("--upstream", "http://gpu", "--max-tokens", "5", "--lambda", "0.5"), "--max-tokens has no effect"),
        (("--upstream", "gpu:8000", "--lambda", "0.5"), "'gpu:8000' is no address of a server"),
        (("--upstream-model", "x"), "--upstream-model needs --upstream"),
        (("--engine", "vllm", "--upstream", "http://gpu"), "does not go with --upstream"),
        (("--engine", "vllm", "--waiting", "3"), "--waiting has no effect with --engine vllm"),
        (("--engine", "vllm", "--queue-from", "3"), "any number of requests, so that λ would never be lowest"),
        (("--upstream", "http://gpu", "--queue-from", "3", "--lambda", "0.5"), "--queue-from needs the folders"),
        (("--lambda", "0.5", "--", "--tensor-parallel-size", "2"), "is an option for vLLM"),
    ],
)
def test_what_does_not_go_together_is_refused(arguments, said):
    result = mull("serve", "--port", 0, *arguments)
    assert result.returncode == 2 and said in result.stderr.replace("\n", " ")


def test_servers_that_do_not_answer():
    result = mull("serve", "--port", 0, "--upstream", f"http://127.0.0.1:{free_port()}", "--lambda", 0.5)
    assert result.returncode == 2 and "no server behind lists its models (ConnectError)" in result.stderr


@pytest.mark.skipif(versions.installed() is not None, reason="vLLM is installed")
def test_vllm_that_is_not_installed():
    result = mull("serve", "--port", 0, "--engine", "vllm")
    assert result.returncode == 2 and "vLLM is not installed here" in result.stderr
