"""The proxy before servers that know nothing of mull and have a model for each λ, as vLLM with adapters has."""

from __future__ import annotations

import json
from contextlib import ExitStack, contextmanager

import openai
import pytest
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse

from mull.dynamic.base import Choice, Cost
from mull.errors import MullError
from mull.serving.app import guarded
from mull.serving.front.front import Front
from mull.serving.levels import Levels, Undecided
from mull.serving.playground.page import page
from mull.serving.upstream.forwarder import Forwarder, Upstream
from mull.serving.upstream.opening import base_name, lambdas_behind, proxy_router
from tests.serving.live import free_port, running

ASK = [{"role": "user", "content": "What is 3 + 4?"}]
PATTERN = "pair@{lambda}"
NAMES = ("pair@0", "pair@0.4", "pair@1")
THINKS = ["Let me ", "add. ", "7\n</thi", "nk>\n\nThe answer", " is 7."]
ANSWERS = ["The answer", " is 7."]


class Stock:
    """Answers in `content` alone: at λ = 1 with a thought that the prompt has opened, else without one."""

    def __init__(self, names=NAMES, parent="pair@0"):
        self.names, self.parent, self.bodies, self.app = names, parent, [], FastAPI()
        self.app.get("/v1/models")(self.models)
        self.app.post("/v1/chat/completions")(self.chat_completions)

    async def models(self):
        return {"data": [{"id": n, "parent": None if n == self.parent else self.parent} for n in self.names]}

    async def chat_completions(self, request: Request):
        body = await request.json()
        self.bodies.append(body)
        pieces = THINKS if body["model"] == "pair@1" else ANSWERS
        head = {"id": "chatcmpl-1", "created": 1, "model": body["model"]}
        if not body.get("stream"):
            message = {"role": "assistant", "content": "".join(pieces), "reasoning": None}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            return {**head, "object": "chat.completion", "choices": [choice]}

        def events():
            for piece in ["", *pieces, None]:
                delta = {"content": piece} if piece is not None else {}
                choice = {"index": 0, "delta": delta, "finish_reason": None if piece is not None else "stop"}
                yield f"data: {json.dumps({**head, 'object': 'chat.completion.chunk', 'choices': [choice]})}\n\n"
            yield "data: [DONE]\n\n"

        return StreamingResponse(events(), media_type="text/event-stream")


@contextmanager
def proxied(stock, default=0.4, undecided=None, **fronts):
    with ExitStack() as stack:
        upstreams = [Upstream(stack.enter_context(running(stock.app)))]
        forwarder = Forwarder(upstreams)
        levels = Levels(model="mull", default=default, auto="chooser" in fronts)
        levels = levels.among(lambdas_behind(upstreams, None, PATTERN))
        front = Front(levels=levels, base=PATTERN, undecided=undecided or Undecided(), **fronts)
        url = stack.enter_context(running(guarded(proxy_router(front, forwarder), close=forwarder.close)))
        yield openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)


@pytest.fixture(scope="module")
def stock():
    return Stock()


@pytest.fixture(scope="module")
def client(stock):
    with proxied(stock) as found:
        yield found


def ask(client, model="mull", **more):
    return client.chat.completions.create(model=model, messages=ASK, **more)


def test_a_lambda_is_the_name_of_a_model_and_nothing_of_mull_is_sent(client, stock):
    ask(
        client, "mull@1", temperature=0, reasoning_effort="high", extra_body={"cache_salt": "s", "vllm_xargs": {"a": 1}}
    )
    wanted = {"model": "pair@1", "messages": ASK, "temperature": 0, "cache_salt": "s", "vllm_xargs": {"a": 1}}
    assert stock.bodies[-1] == wanted
    ask(client, extra_body={"vllm_xargs": {"lambda": 0}})  # of a proxy before this one
    assert stock.bodies[-1] == {"model": "pair@0", "messages": ASK, "vllm_xargs": {}}
    ask(client)
    assert stock.bodies[-1]["model"] == "pair@0.4"


def test_thought_and_answer_are_parted_in_a_whole_reply(client):
    reply = ask(client, "mull@1")
    message = reply.choices[0].message
    assert (message.reasoning, message.content) == ("Let me add. 7", "The answer is 7.")
    assert message.reasoning_content == message.reasoning and reply.model == "mull@1"
    message = ask(client, "mull@0").choices[0].message
    assert (message.reasoning, message.content) == (None, "The answer is 7.")


@pytest.mark.parametrize(
    ("undecided", "lam", "corrected"),
    [
        (Undecided(), "1", False),
        (Undecided(), "0.4", False),  # held back until the end, as it might be a thought
        (Undecided(0.5, 0.9), "0.4", False),
        (Undecided(0.5, 0.9), "1", False),
        (Undecided(0.0, 0.2), "0.4", True),  # taken for a thought at once, and wrongly
    ],
)
def test_and_in_the_pieces_of_a_stream(undecided, lam, corrected):
    with proxied(Stock(), undecided=undecided) as client:
        chunks = list(ask(client, f"mull@{lam}", stream=True))
    told = [chunk.choices[0].delta for chunk in chunks]
    thought = "".join(getattr(delta, "reasoning", None) or "" for delta in told)
    answer = "".join(delta.content or "" for delta in told)
    assert answer == "The answer is 7."
    assert thought == ("Let me add. 7" if lam == "1" else answer if corrected else "")
    assert chunks[-1].mull["lambda"] == float(lam) and chunks[-1].mull.get("corrected", False) == corrected


def test_a_thought_that_the_server_tells_itself_is_left_alone():
    class Parsing(Stock):
        async def chat_completions(self, request: Request):
            reply = await super().chat_completions(request)
            reply["choices"][0]["message"] |= {"reasoning": "</think>", "content": "<think>quoted</think>"}
            return reply

    with proxied(Parsing()) as client:
        message = ask(client).choices[0].message
    assert (message.reasoning, message.content) == ("</think>", "<think>quoted</think>")


def test_a_lambda_that_has_no_model_is_refused_and_an_effort_goes_to_the_nearest(client, stock):
    before = len(stock.bodies)
    for body in ({"model": "mull@0.5"}, {"model": "mull", "extra_body": {"lambda": 0.5}}):
        with pytest.raises(openai.BadRequestError, match=r"0\.5 is not served here; there are 0, 0\.4, 1"):
            ask(client, **body)
    assert len(stock.bodies) == before
    assert ask(client, reasoning_effort="medium").mull["lambda"] == 0.4  # 0.6 by the guideline
    assert ask(client, reasoning_effort="high").mull["lambda"] == 1
    assert [model.id for model in client.models.list()] == ["mull", "mull@0", "mull@0.4", "mull@1"]


def test_auto_goes_to_the_nearest_and_says_so():
    class Chooser:
        async def choose(self, asked):
            return Choice(0.55, "for the test", Cost(0, 0))

    with proxied(Stock(), default=None, chooser=Chooser()) as client:
        reply = ask(client, "mull@auto")
    assert reply.model == "mull@0.4" and reply.mull["lambda"] == 0.4
    assert reply.mull["source"] == "auto (for the test; of the served λ the nearest to 0.55)"


def test_the_lambdas_are_those_that_all_servers_have():
    one, other = Stock(), Stock((*NAMES[:2], "pair@0.8", "pair@x", "pair@1.0", "pair@0.40", "pair@7"))
    with running(one.app) as first, running(other.app) as second:
        down = Upstream(f"http://127.0.0.1:{free_port()}")
        assert lambdas_behind([down, Upstream(first), Upstream(second)], None, PATTERN) == [0, 0.4]
        with pytest.raises(MullError, match=r"no model in common that is called as 'no@\{lambda\}'"):
            lambdas_behind([Upstream(first)], None, "no@{lambda}")
        with pytest.raises(MullError, match=r"Give --lambda one of 0, 0\.4, 1"):
            Levels(model="mull", default=0.5).among(lambdas_behind([Upstream(first)], None, PATTERN))


def test_adapters_are_not_taken_for_a_lambda_per_request():
    """The base model would answer, whatever the λ."""
    with running(Stock().app) as url, pytest.raises(MullError, match=r"--upstream-model 'pair@\{lambda\}'"):
        base_name([Upstream(url)], None)
    with running(Stock(("pair", "other"), "pair").app) as url:  # an adapter of something else
        assert base_name([Upstream(url)], None) == "pair"


def test_the_playground_knows_which_lambdas_there_are():
    levels = Levels(model="mull", default=0.4).among([0, 0.4, 1])
    assert '"only":[0,0.4,1]' in page(levels, pair="a pair").html.replace(" ", "")
