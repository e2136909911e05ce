"""The bodies of requests, checked: what is not supported is refused by name, never ignored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, WrapValidator, model_validator
from pydantic_core import PydanticCustomError

from mull.serving.wire.errors import ApiError, bad

MOST_MESSAGES = 1000
MOST_STOPS = 4
MOST_CHOICES = 16
MOST_TOP_LOGPROBS = 20
MOST_PROMPTS = 64
_IGNORED = frozenset({"user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key"})
"""Fields without influence on a response, which clients send for their own books."""
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "frequency_penalty": (0, 0.0, None),
    "presence_penalty": (0, 0.0, None),
    "logit_bias": ({}, None),
    "response_format": ({"type": "text"}, None),
    "modalities": (["text"], None),
    "parallel_tool_calls": (True, False, None),
    "tools": ([], None),
    "tool_choice": ("none", None),
    "echo": (False, None),
    "best_of": (1, None),
    "suffix": ("", None),
    "verbosity": ("medium", None),
}
"""Fields that are not supported, with the values that ask for nothing."""


def _said(message: str) -> WrapValidator:
    """One sentence for whatever is wrong with a value that may be of several types."""

    def check(value: Any, of_type: Any) -> Any:
        try:
            return of_type(value)
        except ValidationError:
            raise PydanticCustomError("wrong", message) from None  # pyright: ignore[reportArgumentType]

    return WrapValidator(check)


class TextPart(BaseModel):
    """A part of a message's content."""

    model_config = ConfigDict(extra="ignore", strict=True)
    type: Literal["text"]
    text: str


class Message(BaseModel):
    """One message of a conversation."""

    model_config = ConfigDict(extra="ignore", strict=True)
    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[TextPart] | None = None

    @model_validator(mode="before")
    @classmethod
    def _refuse(cls, given: Any) -> Any:
        """Names what is not supported."""
        if not isinstance(given, dict):
            return given
        if given.get("role") in ("tool", "function"):
            raise PydanticCustomError("unsupported", "tools are not supported by this server")
        for name in ("tool_calls", "function_call", "audio"):
            if given.get(name):
                raise PydanticCustomError("unsupported", f"{name} is not supported by this server")
        parts = given.get("content")
        for part in parts if isinstance(parts, list) else ():
            kind = part.get("type") if isinstance(part, dict) else None
            if kind != "text":
                shown = kind[:64] if isinstance(kind, str) else "of this kind"
                raise PydanticCustomError("unsupported", "content parts {kind} are not supported", {"kind": shown})
        return given

    def plain(self) -> dict[str, str]:
        """As chat templates take it."""
        parts = self.content if isinstance(self.content, list) else None
        text = "".join(part.text for part in parts) if parts is not None else (self.content or "")
        return {"role": "system" if self.role == "developer" else self.role, "content": str(text)}


class StreamOptions(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    include_usage: bool = False
    include_obfuscation: bool = False
    """Padding against guesses from the lengths of packets; a server without any may take it."""


def _documented(schema: dict[str, Any]) -> None:
    """Adds the fields that are taken and make no difference."""
    schema["properties"] |= {name: {"description": "Taken, without influence."} for name in sorted(_IGNORED)}
    for name, values in _NEUTRAL.items():
        different = [value for i, value in enumerate(values) if value not in values[:i]]
        schema["properties"][name] = {"enum": different, "description": "Not supported: only what asks for nothing."}


_Lam = Annotated[float, Field(ge=0, le=1)] | Literal["auto"] | None
_Stop = Annotated[str, Field(min_length=1, max_length=256)]
_Stops = _Stop | Annotated[list[_Stop], Field(max_length=MOST_STOPS)] | None


class Common(BaseModel):
    """What chat and text completions share."""

    model_config = ConfigDict(extra="forbid", strict=True, protected_namespaces=(), json_schema_extra=_documented)
    model: str = Field(max_length=512)
    lam: Annotated[_Lam, _said("must be a number from 0 to 1, or 'auto'")] = Field(default=None, alias="lambda")
    reasoning_effort: str | None = Field(default=None, max_length=64)
    thinking_token_budget: int | None = Field(default=None, ge=0, le=1 << 24)
    thinking_budget: int | None = Field(default=None, ge=0, le=1 << 24)
    n: int = Field(default=1, ge=1, le=MOST_CHOICES)
    seed: int | None = Field(default=None, ge=-(1 << 63), lt=1 << 63)
    stop: Annotated[_Stops, _said(f"takes up to {MOST_STOPS} strings of 1 to 256 characters")] = None
    max_tokens: int | None = Field(default=None, ge=1, le=1 << 24)
    temperature: float | None = Field(default=None, ge=0, le=2, allow_inf_nan=False)
    top_p: float | None = Field(default=None, gt=0, le=1, allow_inf_nan=False)
    top_k: int | None = Field(default=None, ge=-1, le=1 << 20)
    stream: bool = False
    stream_options: StreamOptions | None = None

    @property
    def budget(self) -> int | None:
        return self.thinking_token_budget if self.thinking_token_budget is not None else self.thinking_budget

    @property
    def usage(self) -> bool:
        """Whether a stream ends with a chunk of usage."""
        if self.stream_options is not None and not self.stream:
            raise bad("stream_options needs stream: true", "stream_options")
        return self.stream_options is not None and self.stream_options.include_usage

    @property
    def stops(self) -> tuple[str, ...]:
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())


class ChatRequest(Common):
    """The body of `/v1/chat/completions`."""

    messages: list[Message] = Field(min_length=1, max_length=MOST_MESSAGES)
    max_completion_tokens: int | None = Field(default=None, ge=1, le=1 << 24)
    logprobs: bool | None = None
    top_logprobs: int | None = Field(default=None, ge=0, le=MOST_TOP_LOGPROBS)

    @property
    def limit(self) -> int | None:
        return self.max_completion_tokens or self.max_tokens

    @property
    def alternatives(self) -> int | None:
        """How many alternatives to each token; None: no logprobs."""
        if self.top_logprobs and not self.logprobs:
            raise bad("top_logprobs needs logprobs: true", "top_logprobs")
        return (self.top_logprobs or 0) if self.logprobs else None


_Text = Annotated[str, Field(min_length=1)]
_Ids = Annotated[list[Annotated[int, Field(ge=0, lt=1 << 31)]], Field(min_length=1)]
_Many = Field(min_length=1, max_length=MOST_PROMPTS)
_Prompts = _Text | Annotated[list[_Text], _Many] | _Ids | Annotated[list[_Ids], _Many]


class TextRequest(Common):
    """The body of `/v1/completions`."""

    prompt: Annotated[_Prompts, _said(f"takes a text, token ids, or 1 to {MOST_PROMPTS} of them; none is empty")]
    logprobs: int | None = Field(default=None, ge=0, le=MOST_TOP_LOGPROBS)

    @property
    def prompts(self) -> Sequence[str | Sequence[int]]:
        """One or many texts, or token ids."""
        given = self.prompt
        return given if isinstance(given, list) and not isinstance(given[0], int) else [given]  # type: ignore[list-item]

    @property
    def limit(self) -> int | None:
        return self.max_tokens

    @property
    def alternatives(self) -> int | None:
        return self.logprobs


_Request = TypeVar("_Request", bound=BaseModel)


def parsed(kind: type[_Request], body: Any) -> _Request:
    """The checked request. Raises `ApiError` that names the first field that is wrong or not supported."""
    if not isinstance(body, dict):
        raise bad("the body must be a JSON object")
    kept: dict[str, Any] = {}
    known = {field.alias or name for name, field in kind.model_fields.items()}
    for name, value in body.items():
        if name in known:
            kept[name] = value
        elif name in _NEUTRAL:
            if not any(type(value) is type(each) and value == each for each in _NEUTRAL[name]):
                raise ApiError(400, f"{name} is not supported by this server", param=name, code="unsupported_parameter")
        elif name not in _IGNORED:
            raise ApiError(400, f"unknown field {name[:64]!r}", param=name[:64], code="unknown_parameter")
    try:
        return kind.model_validate(kept)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        # Members of a union stand in the path by their types.
        path = [str(part) for part in first["loc"] if part not in ("str", "int") and "[" not in str(part)]
        where = ".".join(path)[:128] or None
        raise bad(f"{where}: {first['msg']}" if where else first["msg"], where) from None
    except RecursionError:
        raise bad("the body is nested too deeply") from None


def texts(messages: Sequence[Message]) -> list[dict[str, str]]:
    """The conversation as chat templates take it."""
    return [message.plain() for message in messages]
