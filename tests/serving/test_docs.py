"""The examples of docs/serving.md run as they stand there, against a server of the built-in pair."""

import asyncio
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import mull.serving
from mull.engines.vllm import versions
from mull.serving.app import application
from mull.tiny import checkpoint_folder

from ..running import mull as command
from .live import free_port, running

PAGE = (Path(__file__).parent.parent.parent / "docs" / "serving.md").read_text(encoding="utf-8")
HERE = "http://127.0.0.1:8000"


def examples(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def server():
    service = mull.serving.open_service(device="cpu")
    with running(application(service, close=service.backend.close)) as url:
        yield url


def printed(command, **options):
    found = subprocess.run(command, capture_output=True, text=True, timeout=300, **options)
    assert found.returncode == 0, found.stderr
    return found.stdout


def node_modules():
    """A folder that has npm's openai, if there is one."""
    clients = os.environ.get("MULL_CLIENTS", Path(__file__).parent.parent.parent / ".clients")  # of `make test-clients`
    places = [Path(clients) / "npm" / "node_modules", *os.environ.get("NODE_PATH", "").split(os.pathsep)]
    return next((Path(place) for place in places if place and (Path(place) / "openai").is_dir()), None)


@pytest.mark.skipif(not shutil.which("curl"), reason="needs curl")
def test_curl(server):
    (command,) = (each for each in examples("sh") if each.startswith("curl"))
    answer = printed(["bash", "-c", command.replace(HERE, server)])
    assert '"model":"mull@0.6"' in answer and "boxed{25}" in answer


def test_python(server):
    program = next(each for each in examples("python") if "OpenAI" in each)
    out = printed([sys.executable, "-c", program.replace(HERE, server)])
    assert re.search(r"thought: Okay.*answer: .*\\boxed\{25\}.*λ: 0\.6 because of model name", out, re.DOTALL)
    assert len(out.partition("model name\n")[2]) > 100  # the stream


@pytest.mark.skipif(not shutil.which("node") or not node_modules(), reason="needs node and npm's openai")
def test_javascript(server, tmp_path):
    (program,) = examples("javascript")
    (tmp_path / "node_modules").symlink_to(node_modules())
    (tmp_path / "example.mjs").write_text(program.replace(HERE, server))
    out = printed(["node", "example.mjs"], cwd=tmp_path)
    assert re.search(r"answer: .*\\boxed\{.*λ: [\d.]+ because of auto \(", out, re.DOTALL)
    assert "reasoning_effort" not in out and len(out.splitlines()) > 4  # the stream


def test_mounting():
    (program,) = (each for each in examples("python") if "open_router" in each)
    for side in ("instruct", "thinking"):
        program = program.replace(f"path/to/{side}", str(checkpoint_folder(side)))
    found = {}
    exec(program, found)
    with running(found["app"]) as url:
        out = printed(["curl", "-s", f"{url}/mull/v1/models"])
    assert '"mull@auto"' in out


def test_chat_in_a_notebook(capsys):
    (program,) = (each for each in examples("python") if "Chat(" in each)
    exec(program, {})
    assert "boxed{25}" in capsys.readouterr().out
    asyncio.run(asyncio.sleep(0))  # a loop can still be had after it


def test_the_levels_of_the_page_are_those_of_the_server():
    from mull.serving.levels import EFFORTS, GUIDELINE

    assert ", ".join(EFFORTS[:-1]) + f" or {EFFORTS[-1]}" in PAGE
    assert ", ".join(f"{lam:g}" for lam in GUIDELINE[:-1]) + f" and {GUIDELINE[-1]:g}" in PAGE


def test_the_options_of_the_page_are_those_of_the_server():
    known = set(re.findall(r"--[\w-]+", command("serve", "--help").stdout))
    lines = [line for block in examples("sh") for line in block.splitlines() if line.startswith("mull serve")]
    named = {option for line in lines for option in re.findall(r"--[\w-]+", line.partition(" -- ")[0])}
    assert {"--queue-from", "--queue-full", "--target-latency"} <= named <= known


def test_every_example_is_run():
    """One that is added is tested, too: only these kinds of blocks, so many of each."""
    kinds = re.findall(r"^```(\w+)$", PAGE, re.MULTILINE)
    assert {kind: kinds.count(kind) for kind in kinds} == {"sh": 9, "python": 3, "javascript": 1, "nginx": 1}


def test_adapters_for_a_vllm_without_plugins(tmp_path):
    """What `serve.sh` does is tested with real vLLM."""
    (line,) = (line for line in "".join(examples("sh")).splitlines() if line.startswith("mull extract-delta"))
    ends = {"A": checkpoint_folder("instruct"), "B": checkpoint_folder("thinking"), "adapter": tmp_path / "adapter"}
    done = command(*(ends.get(word, word) for word in shlex.split(line)[1:]))
    assert done.returncode == 0, done.stderr
    names = {path.name for path in (tmp_path / "adapter").iterdir()}
    assert names >= {"serve.sh", "mull@0.2", "mull@0.4", "mull@0.6", "mull@0.8", "mull@1"}


@pytest.mark.skipif(versions.installed() is not None, reason="vLLM would start")
def test_commands_before_other_servers_look_for_what_is_behind():
    """As they stand there, on the built-in pair, with nothing behind."""
    ends = {"A": str(checkpoint_folder("instruct")), "B": str(checkpoint_folder("thinking"))}
    nobody, said = f"http://127.0.0.1:{free_port()}", []
    for line in "".join(examples("sh")).splitlines():
        if line.startswith("mull serve") and ("--upstream" in line or "--engine" in line):
            words = [nobody if each.startswith("http") else ends.get(each, each) for each in shlex.split(line, True)]
            said.append(command("serve", "--port", 0, *words[2:]).stderr.replace("\n", " "))
    expected = ["vLLM is not installed here", *["no server behind lists its models"] * 3]
    assert [wanted for wanted, found in zip(expected, said, strict=True) if wanted not in found] == []
