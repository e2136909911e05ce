"""Real vLLM with mull's front: the replies are those of the local server, and what vLLM adds works at every λ."""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor

import httpx2
import numpy as np
import openai
import pytest

from mull.benchmarks import FREE_ANSWER, load_benchmark
from mull.checkpoints.pair import Pair
from mull.dynamic.base import Need
from mull.dynamic.choosing import chooser_of
from mull.dynamic.estimators.conf import zero_shot
from mull.dynamic.estimators.length import Length
from mull.dynamic.estimators.linear import Features
from mull.dynamic.estimators.pref import Preference
from mull.dynamic.estimators.router import Router
from mull.dynamic.head import Head
from mull.dynamic.probing.local import measure
from mull.serving.app import guarded
from mull.serving.backend import Limits
from mull.serving.front.opening import open_front
from mull.serving.known import of_built_in
from mull.serving.levels import Levels
from mull.serving.upstream.forwarder import Forwarder, Upstream
from mull.serving.upstream.opening import base_name, proxy_router
from tests.serving.live import running
from tests.serving.vllm.conftest import serving

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(1800)]
LAMS = (0, 0.25, 0.5, 0.7, 1)
QUESTIONS = [question.text for question in load_benchmark("tiny", questions=50).questions()]
FORMAT = {
    "type": "object",
    "properties": {"sum": {"enum": [1, 25]}},
    "required": ["sum"],
    "additionalProperties": False,
}
CALLS = {"enum": [{"sum": 1}, {"sum": 25}]}  # a small model would not end a free one
TOOL = {"type": "function", "function": {"name": "add", "parameters": CALLS, "strict": True}}


@pytest.fixture(scope="module")
def client(vllm_url):
    return openai.OpenAI(base_url=f"{vllm_url}/v1", api_key="none", max_retries=0, timeout=600)


@pytest.fixture(scope="module")
def proxy_url(vllm_url):
    """A proxy before that server, whose front is before a front then."""
    upstreams = [Upstream(vllm_url)]
    forwarder, base = Forwarder(upstreams), base_name(upstreams, None)
    known = of_built_in()
    front = open_front(
        forwarder,
        base,
        Levels(model="mull", default=0.7, **known.levels()),
        known.undecided,
        Pair.built_in(),
        zero_shot(FREE_ANSWER),
        FREE_ANSWER,
        Limits(),
    )
    with running(guarded(proxy_router(front, forwarder), close=forwarder.close)) as url:
        yield url


def asked(client, lam, question=QUESTIONS[0], **more):
    options = {"temperature": 0, "max_completion_tokens": 200} | more
    messages = [{"role": "user", "content": question}]
    return client.chat.completions.create(model=f"mull@{lam}", messages=messages, **options)


def told(reply):
    (choice,) = reply.choices
    message, usage = choice.message, reply.usage
    reasoning = usage.completion_tokens_details.reasoning_tokens
    return (
        message.reasoning or "", message.content or "", choice.finish_reason,
        usage.prompt_tokens, usage.completion_tokens, reasoning,
    )  # fmt: skip


def joined(stream):
    thought, answer = "", ""
    for chunk in stream:
        for choice in chunk.choices:
            thought += getattr(choice.delta, "reasoning", None) or ""
            answer += choice.delta.content or ""
    return thought, answer


def test_concurrent_requests_of_mixed_lambda_are_those_of_the_local_server(client, server):
    pairs = [(lam, question) for lam in LAMS for question in QUESTIONS[:5]]
    alone = [told(asked(client, *pair)) for pair in pairs]
    with ThreadPoolExecutor(len(pairs)) as pool:
        assert list(pool.map(lambda pair: told(asked(client, *pair)), pairs)) == alone
    local = [told(asked(server.client, *pair)) for pair in pairs]
    assert [each[:5] for each in alone] == [each[:5] for each in local]
    # What stands between the last line of a thought and its delimiter counts here and there in the same way.
    assert [each[5] for each in alone] == [each[5] for each in local]
    assert all(not thought and answer for thought, answer, *_ in alone[:5])


@pytest.mark.parametrize("limit", [200, 12])
@pytest.mark.parametrize("lam", LAMS)
def test_a_stream_is_its_reply_in_pieces(client, server, lam, limit):
    whole = told(asked(client, lam, max_completion_tokens=limit))
    assert joined(asked(client, lam, max_completion_tokens=limit, stream=True)) == whole[:2]
    assert whole[:2] == told(asked(server.client, lam, max_completion_tokens=limit))[:2]


def test_several_choices(client):
    reply = asked(client, 0.5, n=3, seed=1, temperature=1, max_completion_tokens=12)
    assert len(reply.choices) == 3
    assert all(choice.message.reasoning or choice.message.content for choice in reply.choices)


def test_a_thinking_budget_closes_the_thought(client, server):
    for budget in (20, 33):
        (*texts, _, _, _, reasoning), local = (
            told(asked(each, 1, extra_body={"thinking_budget": budget})) for each in (client, server.client)
        )
        assert texts == list(local[:2]) and reasoning == local[-1] == budget
    for stream in (False, True):
        reply = asked(client, 1, extra_body={"thinking_budget": 20}, stream=stream)
        thought, answer = joined(reply) if stream else told(reply)[:2]
        assert thought.startswith("Okay") and len(thought) < 60 and "boxed" in answer


@pytest.mark.parametrize("lam", LAMS)
def test_a_format_holds_at_every_lambda(client, lam):
    given = {"type": "json_schema", "json_schema": {"name": "sum", "schema": FORMAT}}
    reply = asked(client, lam, response_format=given)
    assert json.loads(reply.choices[0].message.content)["sum"] in (1, 25)
    assert bool(reply.choices[0].message.reasoning) == (lam >= 0.7)
    thought, answer = joined(asked(client, lam, response_format=given, stream=True))
    assert json.loads(answer)["sum"] in (1, 25) and bool(thought) == (lam >= 0.7)


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "add"}}])
def test_tools_are_called(client, choice):
    given = {"tools": [TOOL], "tool_choice": choice, "max_completion_tokens": 600}  # room for the thought before it
    for lam in (0, 0.5, 1):
        message = asked(client, lam, **given).choices[0].message
        (call,) = message.tool_calls
        assert call.function.name == "add" and json.loads(call.function.arguments)["sum"] in (1, 25)
        assert bool(message.reasoning) == (lam == 1)
        stream = asked(client, lam, **given, stream=True)
        calls = [call for chunk in stream for each in chunk.choices for call in each.delta.tool_calls or ()]
        assert calls[0].function.name == "add"
        assert json.loads("".join(call.function.arguments or "" for call in calls))["sum"] in (1, 25)


def test_an_answer_beside_tools_is_content(client):
    for lam in LAMS:
        plain, stream = (asked(client, lam, tools=[TOOL], stream=each) for each in (False, True))
        message = plain.choices[0].message
        assert "boxed" in message.content and joined(stream)[1].strip() == message.content


def test_logprobs_are_vllms_own(client):
    reply = asked(client, 0, logprobs=True, top_logprobs=3, max_completion_tokens=4)
    assert [len(each.top_logprobs) for each in reply.choices[0].logprobs.content] == [3] * 4


def test_responses(client):
    for lam, kinds in ((0, ["message"]), (1, ["reasoning", "message"])):
        reply = client.responses.create(model=f"mull@{lam}", input=QUESTIONS[0], temperature=0, max_output_tokens=300)
        assert [item.type for item in reply.output] == kinds and "boxed" in reply.output_text
        assert reply.model == f"mull@{lam}" and reply.mull["lambda"] == lam
        events = client.responses.create(
            model=f"mull@{lam}", input=QUESTIONS[0], temperature=0, max_output_tokens=300, stream=True
        )
        found = "".join(event.delta for event in events if event.type == "response.output_text.delta")
        assert found == reply.output_text


@pytest.mark.parametrize("mount", ["vllm_url", "proxy_url"])
def test_auto_by_confidence_is_that_of_the_local_engine(mount, engine, request):
    url, estimator = request.getfixturevalue(mount), zero_shot(FREE_ANSWER)
    own = {text: engine.render([{"role": "user", "content": text}]) for text in QUESTIONS}
    local = [estimator.choose(signals).lam for signals in measure(engine, own, estimator.needs, FREE_ANSWER)]

    served = lambdas_of(url)
    assert max(abs(one - other) for one, other in zip(local, served, strict=True)) < 0.01
    assert max(local) - min(local) > 0.1


def lambdas_of(url):
    """The λ that a server chooses for each question."""

    async def ask():
        async with httpx2.AsyncClient(base_url=url, timeout=600) as http:
            bodies = ({"messages": [{"role": "user", "content": text}]} for text in QUESTIONS)
            replies = await asyncio.gather(*(http.post("/v1/lambda", json=body) for body in bodies))
            assert {reply.status_code for reply in replies} == {200}, replies[0].text
            return [reply.json()["mull"]["lambda"] for reply in replies]

    return asyncio.run(ask())


@pytest.fixture(scope="module")
def head(engine, tmp_path_factory):
    """A head of the built-in pair whose preferences are a random direction of its Instruct states."""
    prompts = [engine.render([{"role": "user", "content": text}]) for text in QUESTIONS]
    readings = list(engine.read(prompts, 0.0))
    states = np.stack([reading.hidden[-1] for reading in readings]).astype(np.float64)
    last, scale = len(readings[0].hidden) - 1, states.std(axis=0) + 1e-3
    features = Features(need=Need.hidden_instruct, layer=last, mean=states.mean(axis=0), scale=scale)
    size, numbers = states.shape[1], {"bias": 0.0, "shortest": 1.0, "longest": 2.0, "low": 0.0, "high": 1.0}
    lams = np.array([0.0, 0.3, 0.5, 0.8, 1.0])
    made = Head(
        pair=Pair.built_in().fingerprints,
        form=FREE_ANSWER,
        preference=Preference(
            features=features, lams=lams, weights=np.random.default_rng(0).normal(size=(len(lams), size)) / size**0.5,
            biases=np.zeros(len(lams)),
        ),
        router=Router(features=features, weights=np.zeros(size), bias=0.0, threshold=0.5),
        length=Length(features=features, weights=np.zeros(size), **numbers),
        confidences=[],
        seen=frozenset(),
        report={},
    )  # fmt: skip
    path = tmp_path_factory.mktemp("head") / "head.safetensors"
    made.save(path)
    return Head.open(path), path


def test_auto_by_preference_is_that_of_the_local_engine_in_every_mount(client, vllm_url, engine, head, tmp_path):
    opened, path = head
    estimator, form = chooser_of(opened, "pref")
    own = {text: engine.render([{"role": "user", "content": text}]) for text in QUESTIONS}
    local = [estimator.choose(signals).lam for signals in measure(engine, own, estimator.needs, form)]
    assert max(local) - min(local) > 0.1
    with serving(tmp_path, "--head", str(path), "--estimator", "pref") as url:
        assert max(abs(one - other) for one, other in zip(local, lambdas_of(url), strict=True)) < 0.01
    forwarder = Forwarder([Upstream(vllm_url)])
    levels = Levels(model="mull", default=0.7, **of_built_in().levels())
    front = open_front(
        forwarder, base_name([Upstream(vllm_url)], None), levels, of_built_in().undecided, Pair.built_in(), estimator,
        form, Limits(),
    )  # fmt: skip
    with running(guarded(proxy_router(front, forwarder), close=forwarder.close)) as url:
        assert max(abs(one - other) for one, other in zip(local, lambdas_of(url), strict=True)) < 0.01


def test_the_proxy_before_it_gives_the_same_replies(client, proxy_url):
    through = openai.OpenAI(base_url=f"{proxy_url}/v1", api_key="none", max_retries=0, timeout=600)
    for lam in LAMS:
        assert told(asked(through, lam)) == told(asked(client, lam))
        assert joined(asked(through, lam, stream=True)) == told(asked(client, lam))[:2]


def test_what_stands_before_vllm(client, vllm_url):
    names = [model.id for model in client.models.list()]
    assert names[:2] == ["mull", "mull@0"] and names[-1] == "mull@auto"
    assert "vllm:" in httpx2.get(f"{vllm_url}/metrics").text
    assert httpx2.get(vllm_url).headers["content-type"].startswith("text/html")
    assert httpx2.get(f"{vllm_url}/v1/models", headers={"host": "elsewhere.example"}).status_code == 403
    with pytest.raises(openai.BadRequestError, match="λ must be a number"):
        asked(client, 2)
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="another", messages=[{"role": "user", "content": "Hi"}])
    with pytest.raises(openai.BadRequestError):
        asked(client, 0, extra_body={"thinking_token_budget": "many"})
