"""Errors of servers: how they are told, and whether another try may help.

A server tells an error by its HTTP status, or by an error object in a reply of status 200, also in the middle of a
stream.
"""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Collection
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple, NoReturn

from mull.engines.remote.endpoints import OMITTABLE, Target
from mull.errors import MullError, nearest

RETRIED = frozenset({408, 409, 425, 429, *range(500, 600)}) - {501, 505}
"""HTTP status codes of errors that may be temporary."""
REDIRECTIONS = (301, 302, 303, 307, 308)

# What the type of an error says where its code is no HTTP status. The first that is found decides.
_KINDS = (
    (429, r"rate.?limit|too.?many|overload|exhaust|capacity|busy|throttl"),
    (401, r"auth|api.?key|permission"),
    (404, r"not.?found"),
    (400, r"invalid|bad.?request|supported|context.?length|filter|policy|moderation|quota|billing|credit|balance"),
)
_UNSUPPORTED = r"un(supported|recogni[sz]ed|known|expected)|not (supported|allowed|permitted)|extra"


class Unanswered(Exception):
    """One request got no usable reply, which says nothing about others. The text says why."""


class TemporaryError(Unanswered):
    """This try failed, but another may succeed. `wait`: seconds that the server asks for, if it does."""

    def __init__(self, why: str, wait: float | None = None) -> None:
        super().__init__(why)
        self.wait = wait


class RequestRefused(Unanswered):
    """This request gets no response; a retry would not help."""


class Problem(NamedTuple):
    """An error that a server tells."""

    status: int
    """The HTTP status, or the one that the error object amounts to."""
    message: str
    """On one line; empty if there is none."""
    in_reply: bool = False
    """Whether it came as an error object in a reply of status 200."""
    wait: float | None = None
    """Seconds that the server asks to wait."""

    def __str__(self) -> str:
        name = f"error {self.status} in the reply" if self.in_reply else f"HTTP {self.status}"
        return f"{name}: {self.message}" if self.message else name


class ErrorReply(Unanswered):
    """A reply of status 200 that holds an error object."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


class ApiKey(NamedTuple):
    """An API key and the environment variable that it comes from."""

    variable: str
    value: str | None

    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.value}"} if self.value else {}

    def __repr__(self) -> str:
        return f"ApiKey({self.variable!r})"  # never the value

    def hide(self, text: str) -> str:
        """`text` without the key, since some servers repeat it in error messages."""
        return text.replace(self.value, "…") if self.value else text


def error_in(reply: Any) -> Problem | None:
    """The error object in the JSON of a reply or of a stream's event, in any of the forms that servers use."""
    if not isinstance(reply, dict):
        return None
    choices = reply.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    found = reply.get("error") or reply.get("errors") or (first.get("error") if isinstance(first, dict) else None)
    told = any(isinstance(reply.get(key), str | list) for key in ("message", "msg", "detail"))
    if not found and ("error" in (reply.get("object"), reply.get("type")) or (not choices and told)):
        found = reply
    if isinstance(found, list):
        found = found[0] if found else None
    if isinstance(found, dict) and isinstance(found.get("error"), dict | str) and found["error"]:
        found = found["error"]
    if not found or (isinstance(found, dict) and not any(found.values())):
        return None
    wait = found.get("retry_after") if isinstance(found, dict) else None
    wait = float(wait) if isinstance(wait, int | float) and 0 <= wait < math.inf else None
    return Problem(_status(found), _message(found), in_reply=True, wait=wait)


def _status(error: Any) -> int:
    """The HTTP status that an error object amounts to; 500 if nothing tells."""
    fields: dict[str, Any] = error if isinstance(error, dict) else {"type": error}
    told = [fields.get(key) for key in ("code", "status", "status_code", "http_code", "type")]
    for value in told:
        if isinstance(value, int | str) and re.fullmatch(r"[45]\d\d", str(value)):
            return int(value)
    words = " ".join(value for value in told if isinstance(value, str)).lower()
    return next((status for status, pattern in _KINDS if re.search(pattern, words)), 500)


def _message(error: Any) -> str:
    if isinstance(error, dict):
        metadata = error.get("metadata")
        raw = metadata.get("raw") if isinstance(metadata, dict) else None  # OpenRouter: what its provider said
        told = next((error[key] for key in ("message", "msg", "detail", "error") if error.get(key)), "")
        told = told or error.get("type") or error.get("code") or error
        error = f"{told} ({raw})" if raw else told
    return clipped(str(error))


def clipped(text: str, most: int = 200) -> str:
    """`text` on one line of at most `most` characters, all of them printable."""
    text = "".join(char if char.isprintable() else " " for char in text[: 20 * most])
    text = " ".join(text.split()).rstrip(".")
    return text if len(text) <= most else text[:most] + "…"


def refuse(problem: Problem, target: Target, key: ApiKey, models: Collection[str] = ()) -> NoReturn:
    """Raise the exception for an error that a server tells.

    `TemporaryError` if a retry may help; `MullError` if key, address or model are wrong, so that no request can
    succeed; else `RequestRefused`, for this request only.
    """
    status, told = problem.status, key.hide(str(problem))
    message = problem.message.lower()
    if status in RETRIED:
        raise TemporaryError(told, problem.wait)
    if status in (401, 403) and not re.search(r"moderation|flagged", message):
        what = "refuses the key" if key.value else "asks for a key"
        remedy = f"put the right one into the environment variable {key.variable}"
        raise MullError(f"{target.url} {what} ({told})", remedy)
    if status == 404 and "model" in message:
        remedy = nearest(target.model, models) if models else "ask it for its models, GET /models"
        raise MullError(f"{target.url} has no model {target.model!r} ({told})", remedy)
    if status in (*REDIRECTIONS, 404, 405) and not problem.in_reply:
        shown = told if status in REDIRECTIONS else f"HTTP {status}"
        what = f"{target.url}/chat/completions does not exist ({shown})"
        raise MullError(what, "give the base URL of the API, as in http://host:8000/v1")
    raise RequestRefused(f"{target.url} refuses a request ({told}){_hint(problem.message)}")


def _hint(message: str) -> str:
    """The options that would avoid an error, in brackets; empty if none would."""
    if "max_completion_tokens" in message and re.search(r"\bmax_tokens\b", message):
        return " (--max-completion-tokens sends the limit under that name)"
    if re.search(r"\bstream(ing)?\b", message) and re.search(r"only|must|requires?\b|enable", message):
        return " (--stream asks for a stream)"
    named = [name for name in OMITTABLE if re.search(rf"\b{name}\b", message)]
    if not re.search(_UNSUPPORTED, message, re.IGNORECASE):  # a limit that is too large should be lowered instead
        named = [name for name in named if name != "max_tokens"]
    return f" (--omit {' --omit '.join(named)} leaves it out)" if named else ""


def retry_after(text: str | None) -> float | None:
    """Seconds from a Retry-After header, which holds seconds or a date; None if it holds neither."""
    if not text:
        return None
    with contextlib.suppress(ValueError):
        seconds = float(text)
        return max(0.0, seconds) if seconds - seconds == 0 else None
    try:
        date = parsedate_to_datetime(text)
        date = date if date.tzinfo else date.replace(tzinfo=UTC)
        return max(0.0, (date - datetime.now(UTC)).total_seconds())
    except (ValueError, OverflowError):
        return None
