"""What the OpenAPI document says of the routes, made of the classes that check the requests and shape the replies.

The routes read their bodies themselves (limits, strictness, clients that leave), so that FastAPI cannot know them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import TypeAdapter

from mull.serving.wire import shapes
from mull.serving.wire.requests import Common

_ERRORS = {
    400: "The request is wrong, or asks for what is not supported.",
    401: "The API key is missing or wrong.",
    403: "The server is not called by this host name.",
    404: "No such model.",
    408: "It took longer than the server allows.",
    413: "The body is too long.",
    429: "Too many requests are under way; `Retry-After` says when to come again.",
    500: "The server failed.",
    503: "The server is going down.",
}

Responses = dict[int | str, dict[str, Any]]


def errors(*statuses: int) -> Responses:
    """The refusals of a route, as its `responses`."""
    return {status: {"model": shapes.Refusal, "description": _ERRORS[status]} for status in statuses}


def answers(reply: Any, chunk: Any) -> Responses:
    """The `responses` of a route that answers at once or as a stream of `chunk`s."""
    piece: Any = chunk | shapes.Refusal
    told = {"contentMediaType": "application/json", "contentSchema": _schema(TypeAdapter(piece))}
    data = {"type": "string", "anyOf": [{"const": "[DONE]"}, told]}
    events = {"itemSchema": {"type": "object", "properties": {"data": data}, "required": ["data"]}}
    header = {"description": "The λ of the answer.", "schema": {"type": "number"}}
    said = (
        "The answer. With `stream: true` its pieces as events, or an error that came in between; `[DONE]` at its end."
    )
    answer = {
        "model": reply,
        "description": said,
        "content": {"text/event-stream": events},
        "headers": {"x-mull-lambda": header},
    }
    return {200: answer, **errors(400, 404, 408, 413, 429, 500, 503)}


def body(
    kind: type[Common], *, models: str, names: Iterable[str], efforts: Iterable[str], optional: Iterable[str] = ()
) -> dict[str, Any]:
    """The `openapi_extra` of a route whose body is a `kind`.

    `models`: a regular expression of the models' names, some of which are `names`. `optional`: required fields that
    this route has a default for.
    """
    schema = _schema(TypeAdapter(kind))
    fields = schema["properties"]
    fields["model"] |= {"pattern": models, "examples": list(names)}
    fields["reasoning_effort"] = {"enum": [*efforts, None], "default": None}
    schema["required"] = [name for name in schema["required"] if name not in set(optional)]
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def _schema(adapter: TypeAdapter[Any]) -> dict[str, Any]:
    """Its JSON schema without references, which would not lead anywhere from inside a document of other people's."""
    schema = adapter.json_schema()
    return _inlined(schema, schema.pop("$defs", {}))


def _inlined(part: Any, definitions: Mapping[str, Any]) -> Any:
    if isinstance(part, list):
        return [_inlined(each, definitions) for each in part]
    if not isinstance(part, dict):
        return part
    if "$ref" in part:
        return _inlined(definitions[part["$ref"].removeprefix("#/$defs/")], definitions)
    return {name: _inlined(value, definitions) for name, value in part.items()}
