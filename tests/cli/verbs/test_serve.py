"""`mull serve` as a process: what it refuses, what it says at the start, and how it ends."""

from __future__ import annotations

import os
import re
import signal
import socket
import sys
import threading
import time
from contextlib import contextmanager
from urllib.parse import urlsplit

import httpx2
import numpy as np
import pytest

from mull import tiny
from mull.benchmarks import FREE_ANSWER
from mull.dynamic.base import Need
from mull.dynamic.estimators.length import Length
from mull.dynamic.estimators.linear import Features
from mull.dynamic.estimators.pref import Preference
from mull.dynamic.estimators.router import Router
from mull.dynamic.head import Head
from tests.running import mull, started

BODY = {"model": "mull@1", "messages": [{"role": "user", "content": "Add up 1 2 3 4."}], "max_tokens": 3}
LONG = BODY | {"max_tokens": 900, "n": 4, "temperature": 2.0, "top_p": 1.0, "stream": True}


@contextmanager
def server(*arguments, **env):
    """A process that serves: (process, its URL, what it said at the start)."""
    process = started("serve", "--port", 0, *arguments, env={**os.environ, **env})
    said = []
    try:
        for line in process.stderr:
            said.append(line)
            if found := re.search(r"http://\S+/v1", line):
                yield process, found[0].removesuffix("/v1"), "".join(said)
                break
        else:
            pytest.fail("".join(said))
    finally:
        process.kill()
        process.communicate()


def test_it_says_what_efforts_mean_and_answers_within_seconds():
    began = time.monotonic()
    with server() as (_, url, said):
        assert "reasoning_effort: none 0, minimal 0." in said and "by the stages of the built-in pair" in said
        assert "warning" not in said and urlsplit(url).hostname == "127.0.0.1"
        reply = httpx2.post(f"{url}/v1/chat/completions", json=BODY, timeout=60)
        assert reply.status_code == 200 and reply.json()["mull"]["lambda"] == 1
        auto = httpx2.post(f"{url}/v1/chat/completions", json=BODY | {"model": "mull"}, timeout=60).json()
        assert auto["mull"]["source"].startswith("auto (")
        assert httpx2.get(f"{url}/health", headers={"Host": "evil.example"}).status_code == 403
    assert time.monotonic() - began < 60  # idle: about 8; this says that it does not hang


def test_a_key_of_the_environment_is_asked_for():
    with server("--name", "pair", "--lambda", 0.25, "--host", "0.0.0.0", MULL_API_KEY="secret") as (_, url, said):
        url = url.replace("0.0.0.0", "127.0.0.1")
        assert "warning" not in said and "secret" not in said
        assert httpx2.get(f"{url}/v1/models").status_code == 401
        headers = {"Authorization": "Bearer secret"}
        body = BODY | {"model": "pair"}
        reply = httpx2.post(f"{url}/v1/chat/completions", json=body, headers=headers, timeout=60)
        assert reply.json()["model"] == "pair@0.25" and reply.json()["mull"]["source"] == "default"


def test_ctrl_c_ends_it_also_with_streams_under_way_and_a_host_is_warned_of():
    with server("--host", "0.0.0.0") as (process, url, said):
        assert "warning: anyone who reaches 0.0.0.0" in said and "MULL_API_KEY" in said
        url = url.replace("0.0.0.0", "127.0.0.1")
        told = []

        def follow():
            try:
                with httpx2.stream("POST", f"{url}/v1/chat/completions", json=LONG, timeout=60) as reply:
                    told.extend(reply.iter_lines())
            except httpx2.TransportError:
                told.append("closed")

        thread = threading.Thread(target=follow)
        thread.start()
        while not told:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
        thread.join(timeout=30)
        assert not thread.is_alive() and "Traceback" not in errors
        assert process.returncode in (0, 130)


def test_a_killed_server_starts_again_on_the_same_port():
    with server() as (process, url, _):
        port = urlsplit(url).port
        with httpx2.stream("POST", f"{url}/v1/chat/completions", json=LONG, timeout=60) as reply:
            next(reply.iter_lines())
            process.kill()
            process.wait()
    with server("--port", port) as (_, again, _):
        assert urlsplit(again).port == port
        assert httpx2.post(f"{again}/v1/chat/completions", json=BODY, timeout=60).status_code == 200


def test_a_port_that_is_taken_is_refused_at_once():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        found = mull("serve", "--port", port)
        assert found.returncode == 2
        assert f"cannot listen on 127.0.0.1:{port}" in found.stderr and "--port" in found.stderr
    found = mull("serve", "--host", "no.such.host.invalid", "--port", 0)
    assert found.returncode == 2 and "cannot listen on no.such.host.invalid" in found.stderr


@pytest.mark.parametrize("lam", ["1.5", "-0.1", "nan", "much", "inf", ""])
def test_a_default_that_is_no_lambda_is_refused(lam):
    found = mull("serve", "--lambda", lam, "--port", 0)
    assert found.returncode == 2 and "from 0 to 1" in found.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--queue-full", 8), "give --queue-from, too"),
        (("--queue-from", 8, "--queue-full", 4), "--queue-full must be above --queue-from, got 4 and 8"),
        (("--queue-from", 8, "--waiting", 8), "--waiting takes 8 responses at a time"),
        (("--target-latency", "nan"), "--target-latency must be a positive number of seconds"),
        (("--target-latency", 30, "--timeout", 20), "above --timeout 20"),
        (("--lowest-lambda", 0.2), "--queue-from or --target-latency, too"),
        (("--queue-from", 8, "--lowest-lambda", 2), "--lowest-lambda 2 is no λ"),
    ],
)
def test_options_of_load_that_do_not_fit_are_refused(options, message):
    found = mull("serve", *options, "--port", 0)
    assert found.returncode == 2 and message in found.stderr.replace("Give", "give"), found.stderr


def test_what_happens_under_load_is_said_at_the_start_and_done():
    options = ("--queue-from", 1, "--queue-full", 2, "--target-latency", 30, "--lowest-lambda", 0)
    with server(*options) as (_, url, said):
        assert "under load: the λ of auto falls between 1 and 2 responses under way, and where" in said
        assert "over 30 s (tokens by λ measured before); not below 0" in said
        body = BODY | {"model": "mull@auto", "n": 2}
        reply = httpx2.post(f"{url}/v1/chat/completions", json=body, timeout=60).json()
        assert reply["mull"]["source"] == "auto (0 for every question now: 2 responses under way)"


def test_an_unknown_estimator_and_half_a_pair_are_refused():
    found = mull("serve", "--estimator", "pref", "--port", 0)
    assert found.returncode == 2 and "ithout --head there is conf alone" in found.stderr
    found = mull("serve", "--instruct", tiny.checkpoint_folder("instruct"), "--port", 0)
    assert found.returncode == 2 and "both" in found.stderr


def other_pair():
    return "--instruct", tiny.checkpoint_folder("base"), "--thinking", tiny.checkpoint_folder("thinking")


def test_the_run_of_another_pair_is_refused(tmp_path):
    settings = ("--benchmark", "tiny", "--questions", 2, "-k", 1, "--lambdas", "0,1", "--max-tokens", 2)
    ran = mull("sweep", *other_pair(), *settings, "--run", tmp_path / "run")
    assert ran.returncode == 0, ran.stderr
    found = mull("serve", "--run", tmp_path / "run", "--port", 0)
    assert found.returncode == 2 and "another pair" in found.stderr
    found = mull("serve", "--run", tmp_path / "nowhere", "--port", 0)
    assert found.returncode == 2 and "nowhere" in found.stderr
    with server(*other_pair(), "--run", tmp_path / "run") as (_, _, said):
        assert "no transition" in said and "not measured on this pair" in said


def test_the_head_of_another_pair_is_refused(tmp_path):
    features = Features(need=Need.hidden_instruct, layer=0, mean=np.zeros(2), scale=np.ones(2))
    preference = Preference(features=features, lams=np.array([0.0, 1.0]), weights=np.zeros((2, 2)), biases=np.zeros(2))
    numbers = {"bias": 0.0, "shortest": 1.0, "longest": 2.0, "low": 0.0, "high": 1.0}
    head = Head(
        pair={"instruct": "another", "thinking": "another"},
        form=FREE_ANSWER,
        preference=preference,
        router=Router(features=features, weights=np.zeros(2), bias=0.0, threshold=0.5),
        length=Length(features=features, weights=np.zeros(2), **numbers),
        confidences=[],
        seen=frozenset(),
        report={},
    ).save(tmp_path / "head.safetensors")
    assert head.digest
    found = mull("serve", "--head", tmp_path / "head.safetensors", "--estimator", "pref", "--port", 0)
    assert found.returncode == 2 and "trained on another" in found.stderr
    found = mull("serve", "--head", tmp_path / "head.safetensors", "--estimator", "prefs", "--port", 0)
    assert found.returncode == 2 and "pref" in found.stderr


def test_a_run_of_the_pair_gives_the_efforts(tmp_path):
    pair = ("--instruct", tiny.checkpoint_folder("instruct"), "--thinking", tiny.checkpoint_folder("thinking"))
    lams = "0,0.2,0.3,0.4,0.45,0.5,0.55,0.6,0.7,0.8,1"
    settings = ("--benchmark", "tiny", "--questions", 12, "-k", 2, "--lambdas", lams, "--max-tokens", 400)
    ran = mull("sweep", *pair, *settings, "--run", tmp_path / "sweep")
    assert ran.returncode == 0, ran.stderr
    with server("--run", tmp_path / "sweep") as (_, _, said):
        assert "(by the stages of sweep)" in said
        low, medium, high = (float(re.search(rf"{effort} ([\d.]+)", said)[1]) for effort in ("low", "medium", " high"))
        assert 0.3 < low < medium < high < 0.75 and abs(medium - 0.518) < 0.03


def test_an_open_host_is_warned_of_with_quiet_too():
    process = started("--quiet", "serve", "--host", "0.0.0.0", "--port", 0)
    try:
        assert "warning: anyone who reaches 0.0.0.0" in process.stderr.readline()
    finally:
        process.kill()
        process.communicate()


def test_a_missing_library_is_named_with_the_extra_that_has_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    monkeypatch.delitem(sys.modules, "mull.serving.running", raising=False)  # imported by an earlier test
    found = mull("serve", "--port", 0)
    assert found.returncode == 2 and "serving needs uvicorn" in found.stderr and "mull[serve]" in found.stderr
