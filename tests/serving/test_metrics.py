"""What `/metrics` tells is read by prometheus_client's own parser, and its counters move."""

from __future__ import annotations

import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families


def samples(server):
    reply = httpx2.get(f"{server.url}/metrics")
    assert reply.status_code == 200 and reply.headers["content-type"].startswith("text/plain; version=0.0.4")
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(reply.text)
        for sample in family.samples
    }


def test_counters_move_by_what_was_done(server, ask):
    def chat(**more):
        body = {"model": "mull@0.7", "messages": ask(), "temperature": 0, **more}
        return server.post("/v1/chat/completions", body)

    chat(max_tokens=1)
    before = samples(server)
    usage = chat().json()["usage"]
    assert chat(stream=True).status_code == 200
    assert chat(model="mull@auto", max_tokens=1).status_code == 200
    assert chat(n=0).status_code == 400
    server.wait_until_free()
    after = samples(server)

    def moved(name, **labels):
        key = (name, *sorted(labels.items()))
        return after[key] - before.get(key, 0)

    assert moved("mull_requests_total", route="chat", status="200") == 3
    assert moved("mull_requests_total", route="chat", status="400") == 1
    assert moved("mull_prompt_tokens_total") == 3 * usage["prompt_tokens"]
    reasoning = usage["completion_tokens_details"]["reasoning_tokens"]
    assert 2 * reasoning <= moved("mull_generated_tokens_total", kind="reasoning") <= 2 * reasoning + 1
    tokens = sum(moved("mull_generated_tokens_total", kind=kind) for kind in ("reasoning", "other"))
    assert tokens == 2 * usage["completion_tokens"] + 1
    assert moved("mull_lambda_count", source="model") == 2 and moved("mull_lambda_count", source="auto") == 1
    assert moved("mull_lambda_sum", source="model") == pytest.approx(1.4)
    assert moved("mull_time_to_first_token_seconds_count") == 3
    assert moved("mull_inter_token_seconds_count") == 2 * (usage["completion_tokens"] - 1)
    assert moved("mull_response_seconds_count") == 3
    assert moved("mull_response_seconds_sum") > moved("mull_time_to_first_token_seconds_sum")
    assert {after[("mull_lambda_lowered_total", ("reason", reason))] for reason in ("queue", "target")} == {0}
    assert after[("mull_responses_under_way",)] == 0
    assert moved("mull_streams_corrected_total") == 0
