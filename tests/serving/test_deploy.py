"""The files of deploy/: the board asks for metrics that there are, and gets data from a real Prometheus."""

import json
import math
import re
import shutil
import subprocess
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
    entry = json.loads(re.search(r"^ENTRYPOINT (.*)$", (DEPLOY / "Dockerfile").read_text(), re.M)[1])
    assert entry[:2] == ["mull", "serve"] and load_verb(entry[1])
    for word in (*entry, *services["mull"]["command"]):
        assert not word.startswith("--") or word in known, word
    config = yaml.safe_load((DEPLOY / "prometheus.yml").read_text(encoding="utf-8"))
    target = config["scrape_configs"][0]["static_configs"][0]["targets"][0]
    assert target.split(":")[0] in services
    for name in ("datasource.yml", "boards.yml"):
        assert yaml.safe_load((DEPLOY / "grafana" / name).read_text(encoding="utf-8"))["apiVersion"] == 1


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
