"""λ(q) by requests to a server behind: what the local engine measures itself."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from mull.benchmarks import FREE_ANSWER, AnswerForm, load_benchmark
from mull.dynamic.base import Need
from mull.dynamic.estimators.conf import Confidence, zero_shot
from mull.dynamic.estimators.linear import Features
from mull.dynamic.estimators.pref import Preference
from mull.dynamic.probing.end import End
from mull.dynamic.probing.local import measure
from mull.engines.base import Request as Asked
from mull.engines.base import Sampling
from mull.errors import MullError
from mull.serving.front.choosing import ByProbes
from mull.serving.front.messages import messages_of
from mull.serving.front.rewriting import Route
from mull.serving.wire.errors import ApiError
from mull.tiny import checkpoint_folder

BOXED = AnswerForm("boxed", "The answer is \\boxed{")
QUESTIONS = [question.text for question in load_benchmark("tiny", questions=6).questions()]


def completions_of(engine) -> FastAPI:
    """A server whose text completions are those of the local engine, with token ids as vLLM gives them."""
    app = FastAPI()

    @app.post("/v1/completions")
    async def completions(request: Request) -> Any:
        body = await request.json()
        assert body["model"] == "base" and body["cache_salt"].startswith(f"lambda={body['vllm_xargs']['lambda']!r}|")
        lam, prompt = body["vllm_xargs"]["lambda"], tuple(body["prompt"])
        sampling = Sampling(temperature=0, top_p=1.0, top_k=0, max_tokens=body["max_tokens"])
        (found,) = engine.generate([Asked(id="0", prompt_ids=prompt, seed=0, sampling=sampling, lam=lam)])
        (reading,) = engine.read([prompt], lam)
        top = {f"token_id:{i}": float(logprob) for i, logprob in enumerate(reading.top_logprobs)}
        told = {"token_logprobs": list(found.logprobs), "top_logprobs": [top] * len(found.token_ids)}
        return {"choices": [{"token_ids": list(found.token_ids), "logprobs": told, "finish_reason": found.finish}]}

    return app


def chosen(engine, estimator, form, ends=None):
    """λ of QUESTIONS by the engine itself, and by a server of it."""
    own = {text: engine.render([{"role": "user", "content": text}]) for text in QUESTIONS}
    local = [estimator.choose(signals) for signals in measure(engine, own, estimator.needs, form)]
    by = ByProbes(completions_of(engine), "base", engine.prompts, estimator, form, ends)

    async def ask():
        return [await by.choose([{"role": "user", "content": text}]) for text in QUESTIONS]

    return local, asyncio.run(ask())


@pytest.mark.parametrize(
    ("estimator", "form"),
    [
        (zero_shot(FREE_ANSWER), FREE_ANSWER),
        (zero_shot(BOXED), BOXED),
        (Confidence(form="gap", alpha=0.5), BOXED),
        (Confidence(form="ratio"), BOXED),
    ],
)
def test_conf_is_that_of_the_local_engine(engine, estimator, form):
    local, served = chosen(engine, estimator, form)
    assert [each.lam for each in served] == pytest.approx([each.lam for each in local], abs=1e-3)
    assert [each.cost for each in served] == [each.cost for each in local]
    assert len({each.lam for each in local}) > 1


def test_pref_reads_an_end_of_its_own(engine):
    width = engine.model.config.hidden_size
    features = Features(need=Need.hidden_instruct, layer=1, mean=np.zeros(width), scale=np.ones(width))
    lams = np.array([0.0, 0.4, 0.8])
    weights = np.random.default_rng(0).normal(size=(3, width))
    estimator = Preference(features=features, lams=lams, weights=weights, biases=np.zeros(3))
    ends = {Need.hidden_instruct: End(checkpoint_folder("instruct"))}
    local, served = chosen(engine, estimator, FREE_ANSWER, ends)
    assert [each.lam for each in served] == [each.lam for each in local]
    assert [each.why for each in served] == [each.why for each in local]


def test_prompts_of_other_routes(engine):
    by = ByProbes(completions_of(engine), "base", engine.prompts, zero_shot(FREE_ANSWER), FREE_ANSWER)

    async def lam_of(asked):
        return (await by.choose(asked)).lam

    ids = engine.render([{"role": "user", "content": QUESTIONS[0]}])
    assert asyncio.run(lam_of(list(ids))) == asyncio.run(lam_of([{"role": "user", "content": QUESTIONS[0]}]))
    assert 0 <= asyncio.run(lam_of("3 + 4 =")) <= 1


@pytest.mark.parametrize(
    ("status", "reply", "error", "said"),
    [
        (503, {"error": {"message": "too much to do"}}, ApiError, "too much to do"),
        (500, "no json", ApiError, "status 500"),
        (200, {"choices": [{"text": "7"}]}, MullError, "lack token ids or logprobs"),
        (200, {"choices": []}, MullError, "lack token ids or logprobs"),
    ],
)
def test_a_server_that_cannot_be_asked(engine, status, reply, error, said):
    app = FastAPI()

    @app.post("/v1/completions")
    async def completions() -> Any:
        return JSONResponse(reply, status_code=status)

    by = ByProbes(app, "base", engine.prompts, zero_shot(FREE_ANSWER), FREE_ANSWER)
    with pytest.raises(error, match=said):
        asyncio.run(by.choose("3 + 4 ="))


def test_the_text_of_a_conversation():
    image = {"type": "image_url", "image_url": {"url": "data:,"}}
    body = {
        "messages": [
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "What is "}, image, {"type": "text", "text": "it?"}]},
            {"role": "assistant", "content": None, "tool_calls": [{}]},
            {"role": "tool", "content": "7", "tool_call_id": "1"},
        ]
    }
    assert messages_of(body, Route.chat) == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "What is it?"},
        {"role": "tool", "content": "7"},
    ]
    items = [
        {"role": "user", "content": [{"type": "input_text", "text": "Hi"}]},
        {"type": "function_call", "name": "f"},
    ]
    asked = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    assert messages_of({"input": items, "instructions": "Be brief."}, Route.responses) == asked
    assert messages_of({"input": "Hi"}, Route.responses) == asked[1:]
    assert messages_of({"prompt": ["one", "two"]}, Route.completions) == "one"
    assert messages_of({"prompt": [[1, 2], [3]]}, Route.completions) == [1, 2]


@pytest.mark.parametrize(
    ("body", "route"),
    [
        ({}, Route.chat),
        ({"messages": []}, Route.chat),
        ({"messages": ["hi"]}, Route.chat),
        ({"messages": [{"role": "user", "content": 3}]}, Route.chat),
        ({"input": 3}, Route.responses),
        ({"prompt": ""}, Route.completions),
        ({"prompt": [True]}, Route.completions),
        ({"prompt": [-1]}, Route.completions),
    ],
)
def test_what_has_no_text_is_refused(body, route):
    with pytest.raises(ApiError):
        messages_of(body, route)
