"""The OpenAPI document: true bodies, replies and statuses, of the classes that check and make them."""

import json

import fastapi
import httpx2
import jsonschema
import pytest
from fastapi.testclient import TestClient
from pydantic import TypeAdapter, ValidationError

from mull.serving.levels import Levels
from mull.serving.router import router_of
from mull.serving.wire import shapes
from mull.serving.wire.errors import ApiError
from mull.serving.wire.requests import ChatRequest, TextRequest, parsed

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"


@pytest.fixture(scope="module")
def document(server):
    return httpx2.get(f"{server.url}/openapi.json").json()


def body(document, path):
    return document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]


GOOD = {"model": "mull@0", "messages": [{"role": "user", "content": "a"}]}
ANY = {"model": "mull@0", "prompt": "a"}
CASES = [
    *[(CHAT, GOOD | {"lambda": lam}) for lam in (0, 0.5, 1, "auto", None, 1.1, -1, True, "0.5", [])],
    *[(CHAT, GOOD | {"stop": stop}) for stop in ("a", [], ["a"] * 4, ["a"] * 5, "", [""], 5, None)],
    *[(CHAT, GOOD | {"tools": tools}) for tools in ([], None, [{}])],
    *[(CHAT, GOOD | {"frequency_penalty": value}) for value in (0, 0.0, 1, False)],
    *[(CHAT, GOOD | {name: "x"}) for name in ("user", "store", "lam", "guided_json")],
    *[(CHAT, GOOD | {"messages": messages}) for messages in ([], [{}], [{"role": "tool"}], [{"role": "user"}], "a")],
    *[(CHAT, GOOD | {"messages": [{"role": "user", "content": [part]}]}) for part in ({"type": "text"}, {}, "a")],
    *[(CHAT, GOOD | {"n": n, "seed": -1, "top_p": 1}) for n in (1, 16, 17, 0, "1", 1.5, None)],
    *[
        (TEXT, ANY | {"prompt": prompt})
        for prompt in ("", [], [1], [[1]], [[]], ["a"] * 64, ["a"] * 65, [1, "a"], [-1])
    ],
    (CHAT, ANY),
    (TEXT, GOOD),
]


@pytest.mark.parametrize(("path", "asked"), CASES)
def test_the_document_takes_the_bodies_that_the_server_takes(document, path, asked):
    try:
        parsed(ChatRequest if path == CHAT else TextRequest, asked)
        taken = True
    except ApiError:
        taken = False
    assert jsonschema.Draft202012Validator(body(document, path)).is_valid(asked) == taken


def test_models_and_efforts_are_those_of_this_server(document, serve):
    fields = body(document, CHAT)["properties"]
    assert fields["reasoning_effort"]["enum"] == ["none", "minimal", "low", "medium", "high", "xhigh", "max", None]
    assert "mull@auto" in fields["model"]["examples"]
    for name, known in {"mull": True, "mull@.5": True, "mull@auto": True, "mull@x": False, "other": False}.items():
        assert jsonschema.Draft202012Validator(body(document, CHAT)).is_valid(GOOD | {"model": name}) == known
    assert jsonschema.Draft202012Validator(fields["model"]).is_valid("Mull") is False
    odd = Levels(model="a.b+(c)-d", default=None).pattern
    assert jsonschema.Draft202012Validator({"pattern": odd}).is_valid("a.b+(c)-d@0.5")
    assert not jsonschema.Draft202012Validator({"pattern": odd}).is_valid("axb+(c)-d@0.5")


def test_the_model_may_be_left_out_where_it_has_a_default(document, server, ask):
    schema = body(document, "/v1/lambda")
    assert schema["required"] == ["messages"] and body(document, CHAT)["required"] == ["model", "messages"]
    reply = server.post("/v1/lambda", {"messages": ask()})
    TypeAdapter(shapes.Choice).validate_python(reply.json())


def test_statuses_and_their_shape(document, serve):
    found = {path: set(next(iter(each.values()))["responses"]) for path, each in document["paths"].items()}
    answers = {"200", "400", "403", "404", "408", "413", "429", "500", "503"}
    assert found[CHAT] == found[TEXT] == found["/v1/lambda"] == answers
    assert found["/v1/models/{name}"] == {"200", "400", "403", "404", "500"}  # and no 422
    assert found["/health"] == found["/metrics"] == found["/v1/models"] == {"200", "403", "500"}
    for path in (CHAT, TEXT):
        replies = document["paths"][path]["post"]["responses"]
        assert {each["content"]["application/json"]["schema"]["$ref"] for status, each in replies.items()} == {
            f"#/components/schemas/{name}"
            for name in ("Refusal", "ChatCompletion" if path == CHAT else "TextCompletion")
        }
    with serve(key="secret", hosts=None) as locked:
        given = httpx2.get(f"{locked.url}/openapi.json", headers={"Authorization": "Bearer secret"}).json()
    assert {"401", "200"} <= set(given["paths"]["/health"]["get"]["responses"])
    assert "403" not in given["paths"][CHAT]["post"]["responses"]


@pytest.mark.parametrize("path", [CHAT, TEXT])
@pytest.mark.parametrize("more", [{}, {"n": 2, "lambda": "auto"}, {"thinking_token_budget": 5}])
def test_replies_and_chunks_have_the_documented_shape(server, path, more):
    asked = (GOOD | {"logprobs": True, "top_logprobs": 2}) if path == CHAT else (ANY | {"logprobs": 2})
    asked |= {"model": "mull@0.9", "max_tokens": 12} | more
    whole, chunk = (
        (shapes.ChatCompletion, shapes.ChatChunk) if path == CHAT else (shapes.TextCompletion, shapes.TextChunk)
    )
    TypeAdapter(whole).validate_python(server.post(path, asked).json(), strict=True)
    reply = server.post(path, asked | {"stream": True, "stream_options": {"include_usage": True}})
    told = [line.removeprefix("data: ") for line in reply.text.splitlines() if line]
    assert told.pop() == "[DONE]" and len(told) > 12
    for each in told:
        TypeAdapter(chunk).validate_python(json.loads(each), strict=True)


def test_a_shape_is_closed():
    with pytest.raises(ValidationError, match="extra"):
        TypeAdapter(shapes.Health).validate_python({"status": "ok", "more": 1})


def test_a_method_that_there_is_not_says_which_there_are(server):
    reply = httpx2.get(f"{server.url}{CHAT}")
    assert reply.status_code == 405 and reply.headers["allow"] == "POST"
    TypeAdapter(shapes.Refusal).validate_python(reply.json())


def test_the_document_of_an_application_that_mounts_the_routes(server):
    app = fastapi.FastAPI()
    app.include_router(router_of(server.service), prefix="/ai")
    given = TestClient(app).get("/openapi.json").json()
    assert body(given, f"/ai{CHAT}")["properties"]["lambda"]
    assert "#/$defs" not in json.dumps(given)
    answers = given["paths"][f"/ai{CHAT}"]["post"]["responses"]
    assert set(answers) == {"200", "400", "404", "408", "413", "429", "500", "503"}
    data = answers["200"]["content"]["text/event-stream"]["itemSchema"]["properties"]["data"]
    done, told = data["anyOf"]
    chunk, refusal = told["contentSchema"]["anyOf"]
    assert done == {"const": "[DONE]"} and "error" in refusal["properties"]
    assert "delta" in chunk["properties"]["choices"]["items"]["properties"]
