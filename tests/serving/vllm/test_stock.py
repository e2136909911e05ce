"""A vLLM without any plugin serves the adapters of `mull extract-delta --levels`, started by their own script.

Its greedy texts are those of checkpoints into which the adapters were added; a sweep and the proxy get the same texts.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import openai
import pytest
from safetensors.torch import load_file, save_file

from mull.benchmarks import load_benchmark
from mull.engines.base import Request, Sampling
from mull.engines.local.engine import LocalEngine
from mull.runs.store import RunStore
from mull.serving.app import guarded
from mull.serving.front.front import Front
from mull.serving.levels import Levels
from mull.serving.upstream.forwarder import Forwarder, Upstream
from mull.serving.upstream.opening import lambdas_behind, proxy_router
from mull.thinking import split_thinking
from mull.tiny import checkpoint_folder
from tests.running import mull
from tests.serving.live import free_port, running
from tests.serving.vllm.conftest import ENVIRONMENT, is_up, python

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(1800)]
LAMS = (0.0, 0.5, 1.0)
TOKENS = 120
QUESTIONS = [question.text for question in load_benchmark("tiny", questions=4).questions()]
OPTIONS = ("--enforce-eager", "--dtype", "float32", "--max-model-len", "1024", "--max-num-seqs", "16")


class Stock(NamedTuple):
    url: str
    adapter: Path


@pytest.fixture(scope="module")
def stock(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stock]:
    folder, port = tmp_path_factory.mktemp("stock"), free_port()
    ends = ("--instruct", checkpoint_folder("instruct"), "--thinking", checkpoint_folder("thinking"))
    done = mull("extract-delta", *ends, "--rank", 12, "--dtype", "float32", "--levels", "0.5,1", "-o", folder / "out")
    assert done.returncode == 0, done.stderr
    programs = folder / "bin"
    programs.mkdir()
    # What `vllm serve MODEL` runs; the build for CPUs has no such program.
    (programs / "vllm").write_text(
        f'#!/bin/sh\nshift\nexec "{python()}" -m vllm.entrypoints.openai.api_server --model "$@"\n'
    )
    (programs / "vllm").chmod(0o755)
    environment = {**os.environ, **ENVIRONMENT, "VLLM_PLUGINS": "", "PATH": f"{programs}:{os.environ['PATH']}"}
    environment.pop("PYTHONPATH", None)  # mull is not there
    url = f"http://127.0.0.1:{port}"
    with (folder / "log").open("w") as log:
        command = ["sh", str(folder / "out" / "serve.sh"), "--port", str(port), *OPTIONS]
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        try:
            while not is_up(url):
                assert server.poll() is None, (folder / "log").read_text()[-4000:]
                time.sleep(1)
            yield Stock(url, folder / "out")
        finally:
            server.terminate()
            server.wait(60)


@pytest.fixture(scope="module")
def expected(stock: Stock, tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[float, str], str]:
    """The greedy texts of Instruct + λ·B·A in float32, by the local engine."""
    instruct, total = checkpoint_folder("instruct"), tmp_path_factory.mktemp("sum") / "checkpoint"
    stored = load_file(stock.adapter / "adapter_model.safetensors")
    base = {name: tensor.float() for name, tensor in load_file(instruct / "model.safetensors").items()}
    found = {}
    for lam in LAMS:
        shutil.copytree(checkpoint_folder("thinking"), total, dirs_exist_ok=True)
        tensors = {name: tensor.clone() for name, tensor in base.items()}
        for name, a in stored.items():
            if ".lora_A." in name:
                product = stored[name.replace(".lora_A.", ".lora_B.")].double() @ a.double()
                tensors[name.removeprefix("base_model.model.").replace(".lora_A.", ".")] += lam * product
        save_file(tensors, total / "model.safetensors", {"format": "pt"})
        engine = LocalEngine(total, total, device="cpu")
        greedy = Sampling(temperature=0, max_tokens=TOKENS)
        requests = [
            Request(id=text, prompt_ids=engine.render([{"role": "user", "content": text}]), seed=0, sampling=greedy)
            for text in QUESTIONS
        ]
        found |= {(lam, each.id): each.text for each in engine.generate(requests)}
    return found


def asked(client: openai.OpenAI, lam: float, text: str) -> Any:
    messages: Any = [{"role": "user", "content": text}]
    return client.chat.completions.create(model=f"mull@{lam:g}", messages=messages, temperature=0, max_tokens=TOKENS)


def test_its_texts_are_those_of_the_sums(stock: Stock, expected: dict[tuple[float, str], str]):
    client = openai.OpenAI(base_url=f"{stock.url}/v1", api_key="none", max_retries=0, timeout=600)
    assert [model.id for model in client.models.list()] == ["mull@0", "mull@0.5", "mull@1"]
    with ThreadPoolExecutor(len(expected)) as pool:  # in one batch
        replies = list(pool.map(lambda pair: asked(client, *pair), expected))
    for (lam, _), wanted, reply in zip(expected, expected.values(), replies, strict=True):
        assert reply.choices[0].message.content == wanted.removesuffix("<|im_end|>"), lam
    assert all(len({expected[lam, text] for lam in LAMS}) > 1 for text in QUESTIONS)  # the levels differ


def test_a_sweep_asks_it(stock: Stock, expected: dict[tuple[float, str], str], tmp_path: Path):
    options = ("--questions", len(QUESTIONS), "-k", 1, "--temperature", 0, "--max-tokens", TOKENS)
    server = ("--endpoint", f"{stock.url}/v1", "--model-map", "mull@{lambda}", "--lambdas", "0,0.5,1")
    done = mull("sweep", *server, "--benchmark", "tiny", *options, "--run", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    with RunStore.open(tmp_path / "run") as store:
        texts = {(sample.lam, sample.text.removesuffix("<|im_end|>")) for sample in store.samples()}
    assert texts == {(lam, text.removesuffix("<|im_end|>")) for (lam, _), text in expected.items()}


def test_the_proxy_names_its_lambdas_and_parts_thought_and_answer(stock: Stock, expected: dict[tuple[float, str], str]):
    upstreams, pattern = [Upstream(stock.url)], "mull@{lambda}"
    forwarder = Forwarder(upstreams)
    levels = Levels(model="mull", default=0.5, auto=False).among(lambdas_behind(upstreams, None, pattern))
    assert levels.only == LAMS
    app = guarded(proxy_router(Front(levels=levels, base=pattern), forwarder), close=forwarder.close)
    with running(app) as url:
        client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=600)
        for (lam, text), whole in expected.items():
            reply = asked(client, lam, text)
            split = split_thinking(whole, finished=reply.choices[0].finish_reason == "stop")
            message = reply.choices[0].message
            assert ((message.reasoning or "").strip(), message.content.strip()) == (split.thought, split.answer)
            assert reply.model == f"mull@{lam:g}"
