"""What a request becomes before the server behind reads it. Knows no HTTP.

λ, and what else only mull reads, is translated; all other fields stay as they are, and the server behind judges them.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from mull.engines.remote.endpoints import PLACE
from mull.engines.vllm.marks import MARK, Reading
from mull.engines.vllm.per_request.requests import LAMBDA, cache_salt
from mull.serving.levels import Levels, Undecided, Wish, number
from mull.serving.wire.errors import ApiError, bad

_MOST_NAME = 512


class Route(StrEnum):
    """The routes that carry a λ, by their names in metrics."""

    chat = "chat"
    completions = "completions"
    responses = "responses"


def wish_of(body: dict[str, Any], route: Route, levels: Levels) -> Wish:
    """The λ that a request asks for. Raises `ApiError` for what is no λ.

    A λ that stands in `vllm_xargs` already, of a front before this one, counts as the field `lambda` does.
    """
    model = body.get("model", levels.model)
    if not isinstance(model, str) or len(model) > _MOST_NAME:
        raise bad("model must be a string", "model")
    given = body.get("lambda")
    if given is None:
        given = _extra(body).get(LAMBDA)
    effort = body.get("reasoning_effort")
    if route is Route.responses and effort is None:
        reasoning = body.get("reasoning")
        effort = reasoning.get("effort") if isinstance(reasoning, dict) else None
    if effort is not None and not isinstance(effort, str):
        raise bad("reasoning_effort must be a string", "reasoning_effort")
    return levels.wish(model, given, effort)


def budget_of(body: dict[str, Any]) -> Any:
    """The most tokens of a thought, as the request has it; None without."""
    found = body.get("thinking_token_budget")
    return body.get("thinking_budget") if found is None else found


def limit_of(body: dict[str, Any]) -> int | None:
    """The most tokens of a response, under any of its names; None without."""
    found = (body.get(name) for name in ("max_completion_tokens", "max_tokens", "max_output_tokens"))
    return next((each for each in found if isinstance(each, int) and each > 0), None)


def rewritten(body: dict[str, Any], route: Route, *, base: str, lam: float, undecided: Undecided) -> dict[str, Any]:
    """The body for the server behind, which knows the pair as `base`. Raises `ApiError` for what would be lost.

    With {lambda} in it, `base` is the name of a model for each λ, and the server behind knows nothing of mull.
    """
    new = {name: value for name, value in body.items() if name not in _TRANSLATED}
    budget = budget_of(body)
    if budget is not None:
        if route is Route.responses:
            message = "thinking_token_budget is not supported by /v1/responses"
            raise ApiError(400, message, param="thinking_token_budget", code="unsupported_parameter")
        new["thinking_token_budget"] = budget
    if isinstance(new.get("reasoning"), dict):
        new["reasoning"] = {name: value for name, value in new["reasoning"].items() if name != "effort"}
    if PLACE in base:
        new["model"] = base.replace(PLACE, number(lam))
        if LAMBDA in _extra(body):  # of a front before this one
            new["vllm_xargs"] = {name: value for name, value in _extra(body).items() if name != LAMBDA}
        return new
    new |= {
        "model": base,
        "vllm_xargs": {**_extra(body), LAMBDA: lam},
        "cache_salt": _salted(body.get("cache_salt"), lam),
    }
    if route is not Route.completions:
        tools = has_tools(body)
        mark = {"thought": reading(body, lam, undecided, tools=tools), "tools": tools}
        new["chat_template_kwargs"] = {**_object(body, "chat_template_kwargs"), MARK: mark}
    return new


def reading(body: dict[str, Any], lam: float, undecided: Undecided, *, tools: bool) -> Reading:
    """How a response at this λ is read.

    Where a format is asked for and not every response thinks, none is let think: one that never closes its thought
    would never come under the format.
    """
    above, below = undecided
    if lam >= below:
        return Reading.sure
    if _has_format(body) or (tools and lam <= above):
        return Reading.plain
    return Reading.direct if lam <= above else Reading.hold


def has_tools(body: dict[str, Any]) -> bool:
    """Whether calls of tools may come."""
    return bool(body.get("tools")) and body.get("tool_choice") != "none"


def _has_format(body: dict[str, Any]) -> bool:
    text = body.get("text")
    formats = (body.get("response_format"), text.get("format") if isinstance(text, dict) else None)
    if any(isinstance(each, dict) and each.get("type", "text") != "text" for each in formats):
        return True
    choice = body.get("tool_choice")
    return bool(body.get("structured_outputs")) or choice == "required" or isinstance(choice, dict)


def _salted(salt: Any, lam: float) -> str:
    """A salt with which the prefix cache keeps each λ apart. Raises `ApiError` for one that is no text."""
    if not isinstance(salt, str | None):
        raise bad("cache_salt must be a string", "cache_salt")
    return cache_salt(lam, salt or "")


def _extra(body: dict[str, Any]) -> dict[str, Any]:
    return _object(body, "vllm_xargs")


def _object(body: dict[str, Any], name: str) -> dict[str, Any]:
    found = body.get(name)
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise bad(f"{name} must be an object", name)
    return found


_TRANSLATED = frozenset({"lambda", "reasoning_effort", "thinking_budget", "thinking_token_budget"})
