"""The files of deploy/: the board asks for metrics that there are, and gets data from a real Prometheus."""

import json
import math
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx2
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

import mull.serving
from mull.cli.main import load_verb
from mull.serving.app import application
from mull.serving.vllm import launch

from ..running import mull as command
from .live import free_port, running

DEPLOY = Path(__file__).parent.parent.parent / "deploy"
BOARD = json.loads((DEPLOY / "grafana" / "mull.json").read_text(encoding="utf-8"))
EXPRESSIONS = [target["expr"] for panel in BOARD["panels"] for target in panel["targets"]]
KEY = "a key"
HEADERS = {"authorization": f"Bearer {KEY}"}
ASK = {"messages": [{"role": "user", "content": "What is the sum of 3 4 5 6 7?"}], "max_tokens": 40, "stream": True}


@pytest.fixture(scope="module")
def server():
    service = mull.serving.open_service(device="cpu", lam=0.5)
    with running(application(service, key=KEY, close=service.backend.close)) as url:
        yield url


def ask(url, model="mull@0.4"):
    reply = httpx2.post(f"{url}/v1/chat/completions", json={**ASK, "model": model}, headers=HEADERS, timeout=60)
    return reply.status_code


def test_the_board_names_metrics_that_the_server_exposes(server):
    assert (ask(server), ask(server, "other")) == (200, 404)
    text = httpx2.get(f"{server}/metrics", headers=HEADERS).text
    exposed = {sample.name for family in text_string_to_metric_families(text) for sample in family.samples}
    named = {name for expression in EXPRESSIONS for name in re.findall(r"\bmull_\w+", expression)}
    assert named and named <= exposed
    labels = {
        (sample.name, label)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        for label in sample.labels
    }
    for expression in EXPRESSIONS:
        for label in re.findall(r"by \((\w+)", expression):
            assert any((name, label) in labels for name in re.findall(r"mull_\w+", expression)), expression


def test_the_composition_uses_files_and_options_that_there_are():
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))["services"]
    for service in services.values():
        for volume in service.get("volumes", ()):
            assert (DEPLOY / volume.split(":")[0]).is_file(), volume
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    known = command("serve", "--help").stdout
    entry = entrypoint()
    assert entry[:2] == ["mull", "serve"] and load_verb(entry[1])
    for word in (*entry, *services["mull"]["command"]):
        assert not word.startswith("--") or word in known, word
    config = yaml.safe_load((DEPLOY / "prometheus.yml").read_text(encoding="utf-8"))
    target = config["scrape_configs"][0]["static_configs"][0]["targets"][0]
    assert target.split(":")[0] in services
    for name in ("datasource.yml", "boards.yml"):
        assert yaml.safe_load((DEPLOY / "grafana" / name).read_text(encoding="utf-8"))["apiVersion"] == 1


def entrypoint():
    """The image's own command."""
    return json.loads(re.search(r"^ENTRYPOINT (.*)$", (DEPLOY / "Dockerfile").read_text(), re.M)[1])


def deployed():
    """Name → what its container runs, of the image, the composition and every manifest that runs mull."""
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))["services"]
    found = {"image": entrypoint(), "composition": entrypoint() + services["mull"]["command"]}
    for path in sorted((DEPLOY / "kubernetes").glob("*.yaml")):
        for resource in yaml.safe_load_all(path.read_text(encoding="utf-8")):
            pod = resource["spec"].get("template", {}).get("spec", {})
            for each in pod.get("containers", ()):
                words = [*each.get("command", ()), *each.get("args", ())]
                if words[:1] == ["mull"]:
                    found[f"{path.name}: {each['name']}"] = words
    return found


DEPLOYED = deployed()


def test_every_container_of_mull_is_looked_at():
    assert DEPLOYED.keys() == {"image", "composition", "front.yaml: front", "replicas.yaml: vllm"}


@pytest.mark.parametrize("name", DEPLOYED)
def test_the_command_takes_what_a_container_gives_it(name):
    """The command itself reads the options and refuses unknown ones, wrong values and what contradicts each other; then
    it finds the port taken, before it opens a checkpoint."""
    with socket.create_server(("0.0.0.0", 0)) as taken:
        port = f"--port={taken.getsockname()[1]}"
        words = [each for each in DEPLOYED[name][1:] if not each.startswith("--port=")]
        done = command(words[0], port, *words[1:])
    assert done.returncode == 2 and f"cannot listen on 0.0.0.0:{port.removeprefix('--port=')}" in done.stderr
    renamed = [re.sub("^--host", "--hosst", each) for each in words]
    assert "No such option" in command(renamed[0], *renamed[1:]).stderr  # so that passing means something


def test_options_for_vllm_are_those_that_the_documentation_names():
    pages = "".join(path.read_text(encoding="utf-8") for path in (DEPLOY.parent / "docs").glob("*.md"))
    (words,) = [words for words in DEPLOYED.values() if "--engine=vllm" in words]
    behind = [word.partition("=")[0] for word in words[words.index("--") + 1 :]]
    assert behind and all(f" {option} " in pages for option in behind), behind
    assert not launch._OWN.keys() & set(behind)  # mull sets those itself, and refuses them


def test_the_download_of_checkpoints_takes_its_options():
    script = (DEPLOY / "kubernetes" / "checkpoints.yaml").read_text(encoding="utf-8")
    given = set(re.findall(r"hf download .*? (--[a-z-]+)", script))
    words = [sys.executable, "-m", "huggingface_hub.cli.hf", "download", "--help"]
    known = subprocess.run(words, capture_output=True, text=True, env={**os.environ, "COLUMNS": "200"}).stdout
    assert given == {"--local-dir"} and all(re.search(rf"{option}\b", known) for option in given)


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("prometheus"), reason="needs Debian's prometheus")
def test_every_expression_of_the_board_returns_data(server, tmp_path):
    """Of a real Prometheus that scrapes a real server by the file of deploy/, under some traffic."""
    secret = tmp_path / "key"
    secret.write_text(KEY)
    config = (DEPLOY / "prometheus.yml").read_text(encoding="utf-8")
    config = config.replace("mull:8000", server.removeprefix("http://")).replace("15s", "1s")
    (tmp_path / "prometheus.yml").write_text(config.replace("/run/secrets/mull_api_key", str(secret)))
    command = ["prometheus", f"--config.file={tmp_path / 'prometheus.yml'}", f"--storage.tsdb.path={tmp_path / 'data'}"]
    address = f"127.0.0.1:{free_port()}"
    process = subprocess.Popen(
        [*command, f"--web.listen-address={address}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    stop = threading.Event()

    def traffic():
        while not stop.is_set():
            ask(server), ask(server, "mull@0.9"), ask(server, "other")

    asking = threading.Thread(target=traffic)
    asking.start()
    try:
        missing, end = set(EXPRESSIONS), time.monotonic() + 120
        while missing and time.monotonic() < end:
            time.sleep(1)
            assert process.poll() is None
            missing = {each for each in missing if not has_data(address, each)}
        assert missing == set()
    finally:
        stop.set()
        process.terminate()
        process.wait()
        asking.join()


def has_data(address, expression):
    """Whether Prometheus has finite numbers for an expression. It refuses one that is no PromQL with 400."""
    query = expression.replace("$__rate_interval", "20s")
    try:
        reply = httpx2.get(f"http://{address}/api/v1/query", params={"query": query})
    except httpx2.TransportError:
        return False  # it starts
    if reply.status_code == 503:
        return False
    assert reply.status_code == 200, reply.text
    found = reply.json()["data"]["result"]
    return bool(found) and all(math.isfinite(float(each["value"][1])) for each in found)
