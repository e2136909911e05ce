"""vLLM's own server, started with two options more: λ in `vllm_xargs`."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from mull.tiny import checkpoint_folder
from tests.engines.vllm.per_request.conftest import ENVIRONMENT

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(1800)]

Ask = Callable[..., tuple[int, Any]]


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ask]:
    """Posts a completion's request to a server of the built-in pair; gives status and body."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    ends = {side: str(checkpoint_folder(side)) for side in ("instruct", "thinking")}
    options = {"load-format": "mull", "quantization": "mull", "model-loader-extra-config": json.dumps(ends)}
    options |= {"model": ends["thinking"], "served-model-name": "pair", "dtype": "float32", "max-model-len": 256}
    options |= {"host": "127.0.0.1", "port": port}
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--enforce-eager"]
    command += [word for name, value in options.items() for word in (f"--{name}", str(value))]
    log = tmp_path_factory.mktemp("server") / "log"
    with log.open("w") as out:
        environment = ENVIRONMENT | os.environ | {"VLLM_ENABLE_V1_MULTIPROCESSING": "1"}
        server = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=environment)

    def ask(**body: Any) -> tuple[int, Any]:
        data = json.dumps({"model": "pair", "prompt": "7 + 25 =", "temperature": 0, "max_tokens": 16} | body).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/v1/completions", data, {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=120) as response:
                return response.status, json.load(response)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    try:
        while True:
            assert server.poll() is None, log.read_text()[-3000:]
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5)
                break
            except OSError:
                time.sleep(0.5)
        yield ask
    finally:
        server.terminate()
        server.wait()


def test_requests_of_many_lambdas_at_once_answer_as_alone(ask: Ask):
    bodies = [{"vllm_xargs": {"lambda": lam}} for lam in (0, 0.2, 0.4, 0.6, 0.8, 1)]
    alone = [ask(**body)[1]["choices"][0]["text"] for body in bodies]
    with ThreadPoolExecutor(18) as pool:
        together = list(pool.map(lambda body: ask(**body), bodies * 3))
    assert [status for status, _ in together] == [200] * 18
    assert [body["choices"][0]["text"] for _, body in together] == alone * 3
    assert len(set(alone)) > 2
    assert ask()[1]["choices"][0]["text"] == alone[-1]  # no λ named: the donor's


@pytest.mark.parametrize("lam", [1.5, -1, "much", [0.5]])
def test_what_is_no_lambda_is_a_bad_request(ask: Ask, lam: object):
    status, body = ask(vllm_xargs={"lambda": lam})
    assert status == 400
    assert "lambda must" in body["error"]["message"] or not isinstance(lam, int | float | str)


def test_beam_search_is_a_bad_request(ask: Ask):
    status, body = ask(use_beam_search=True, n=2, vllm_xargs={"lambda": 0.5})
    assert status == 400
    assert "beam search has no λ per request" in body["error"]["message"]
