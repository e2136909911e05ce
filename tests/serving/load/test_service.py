"""A real server under load: `auto` gives a smaller λ, says so, and gives λ(q) again when the load is gone."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families

from mull import tiny
from mull.dynamic.estimators.conf import Confidence
from mull.serving.load.control import LoadControl, LoadPolicy

DOUBTFUL = Confidence(form="entropy", lam0=0.8)
"""Asks for a large λ."""
LOW = 0.3


def controlled(**policy):
    return LoadControl(LoadPolicy(**policy).within(64, 600), low=LOW, tokens=tiny.TOKENS)


@contextmanager
def busy(server, ask):
    """While sixteen long responses are under way."""
    body = {"messages": ask(), "model": "mull@1", "n": 16, "max_tokens": 900, "temperature": 2.0, "top_p": 1.0}
    body |= {"top_k": 0, "seed": 0, "stream": True}
    with httpx2.stream("POST", f"{server.url}/v1/chat/completions", json=body, timeout=60) as reply:
        lines = reply.iter_lines()  # kept until the end: when it is dropped, the connection is closed
        assert next(lines).startswith("data: ")
        yield
        assert reply.status_code == 200 and next(lines) == ""


def chat(server, ask, **more):
    body = {"messages": ask(), "model": "mull", "max_tokens": 4, "temperature": 0, **more}
    reply = server.post("/v1/chat/completions", body)
    assert reply.status_code == 200, reply.text
    assert reply.headers["x-mull-lambda"] == f"{reply.json()['mull']['lambda']:g}"
    return reply.json()["mull"]


def lowered(server):
    families = text_string_to_metric_families(httpx2.get(f"{server.url}/metrics").text)
    samples = [sample for family in families for sample in family.samples]
    return {each.labels["reason"]: each.value for each in samples if each.name == "mull_lambda_lowered_total"}


def test_auto_gets_less_while_others_are_under_way_and_its_own_lambda_afterwards(serve, ask):
    control = controlled(queue_from=4, queue_full=40)
    with serve(default=None, estimator=DOUBTFUL, load=control) as server:
        alone = chat(server, ask)
        assert alone["lambda"] > 0.7 and "lowered" not in alone["source"] and "lowered_from" not in alone
        with busy(server, ask), ThreadPoolExecutor(8) as pool:
            for said in pool.map(lambda _: chat(server, ask), range(8)):
                assert said["lowered_from"] == alone["lambda"] and LOW < said["lambda"] < alone["lambda"]
                change = f"lowered from {said['lowered_from']:g} to {said['lambda']:g}"
                words = re.fullmatch(rf"(.*); {change}: (\d+) responses under way\)", said["source"])
                assert words and words[1] + ")" == alone["source"] and int(words[2]) > 8
            given = server.post("/v1/lambda", {"messages": ask()}).json()
            assert given["mull"]["lambda"] < alone["lambda"] and "lowered from" in given["mull"]["source"]
            assert given["model"] == f"mull@{given['mull']['lambda']:g}"
            for named, lam in (({"lambda": 0.9}, 0.9), ({"model": "mull@1"}, 1), ({"reasoning_effort": "high"}, 0.8)):
                said = chat(server, ask, **named)
                assert said["lambda"] == lam and "lowered_from" not in said and "auto" not in said["source"]
        server.wait_until_free()
        assert chat(server, ask) == alone
        assert lowered(server) == {"queue": 9, "target": 0}


def test_a_full_queue_gets_the_lowest_lambda_without_a_probe(serve, ask):
    with serve(default=None, estimator=DOUBTFUL, load=controlled(queue_from=1, queue_full=8)) as server:
        with busy(server, ask):
            said = chat(server, ask)
        assert said["lambda"] == LOW and said["lowered_from"] is None
        assert said["cost"] == {"generated": 0, "prefilled": 0}
        assert re.fullmatch(rf"auto \({LOW} for every question now: \d+ responses under way\)", said["source"])


@pytest.mark.parametrize(("target", "kept"), [(599.0, True), (1e-6, False)])
def test_a_target_is_judged_by_the_pace_of_the_servers_own_responses(serve, ask, target, kept):
    control = controlled(target=target)
    with serve(default=None, estimator=DOUBTFUL, load=control) as server:
        assert control.seconds(0.8, 1) == 0
        chat(server, ask, **{"lambda": 0.8}, max_tokens=400)
        server.wait_until_free()
        assert control.first_token.at(1) > 0 and control.between_tokens.at(1) > 0
        said = chat(server, ask)
        assert (said["lambda"] > 0.7) == kept
        assert lowered(server) == {"queue": 0, "target": 0 if kept else 1}


def test_responses_teach_the_server_their_tokens(serve, ask):
    control = LoadControl(LoadPolicy(target=600))
    with serve(load=control) as server:
        chat(server, ask, max_tokens=3)
        assert control.tokens.at(0.7) == 3  # cut off, and nothing else is known
        body = {"messages": ask(), "model": "mull@0.2", "temperature": 0}
        usage = server.post("/v1/chat/completions", body).json()["usage"]
        assert control.tokens.at(0.2) == usage["completion_tokens"] > 3
        server.post("/v1/chat/completions", {**body, "stop": "a"})
        assert control.tokens.at(0.2) == usage["completion_tokens"]
