"""Errors as OpenAI's API shapes them. No text of an exception that was not written for a user leaves the server."""

from __future__ import annotations

from mull.errors import MullError
from mull.serving.wire.shapes import Refusal


class ApiError(Exception):
    """What a client did wrong, or what the server cannot do now."""

    def __init__(
        self, status: int, message: str, *, param: str | None = None, code: str | None = None, retry: int | None = None
    ) -> None:
        """`status`: of HTTP. `param`: the field of the request that is wrong. `retry`: seconds to wait."""
        super().__init__(message)
        self.status, self.message, self.param, self.code, self.retry = status, message, param, code, retry

    @property
    def headers(self) -> dict[str, str]:
        return {} if self.retry is None else {"Retry-After": str(self.retry)}

    def body(self) -> Refusal:
        """The JSON of the reply."""
        kind = _KINDS.get(self.status, "server_error" if self.status >= 500 else "invalid_request_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}


_KINDS = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    429: "rate_limit_error",
}


def bad(message: str, param: str | None = None) -> ApiError:
    """A request that cannot be answered as it is."""
    return ApiError(400, message, param=param, code="invalid_value")


def of(error: MullError) -> ApiError:
    """A refusal of the engine."""
    return bad(str(error))
