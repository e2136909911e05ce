"""A server as it stands behind mull's front: it answers as vLLM does, and keeps what it was sent."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse

THOUGHT, ANSWER = ["Let me ", "add. ", "7"], ["The answer ", "is 7."]
USAGE = {
    "prompt_tokens": 12,
    "completion_tokens": 9,
    "total_tokens": 21,
    "completion_tokens_details": {"reasoning_tokens": 4},
}


class Behind:
    """`app` answers; `bodies` and `headers` are those of its requests."""

    def __init__(self, model: str = "base") -> None:
        self.model = model
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.left = asyncio.Event()
        """Set when a client leaves before its response has ended."""
        self.status, self.go_on, self.break_at = 200, True, -1
        """The status of replies; whether streams go on; after which chunk the connection breaks."""
        self.app = FastAPI()
        self.app.get("/v1/models")(self.models)
        for path in ("chat/completions", "completions", "responses"):
            self.app.post(f"/v1/{path}")(getattr(self, path.replace("/", "_")))

    async def models(self) -> Any:
        return {"object": "list", "data": [{"id": self.model, "object": "model"}]}

    async def _body(self, request: Request) -> dict[str, Any]:
        self.bodies.append(await request.json())
        self.headers.append(dict(request.headers))
        return self.bodies[-1]

    def _refusal(self) -> Response | None:
        if self.status == 200:
            return None
        error = {"message": "told so by the test", "type": "BadRequestError", "param": None, "code": self.status}
        return JSONResponse({"error": error}, status_code=self.status, headers={"retry-after": "3"})

    async def chat_completions(self, request: Request) -> Response:
        body = await self._body(request)
        if (refusal := self._refusal()) is not None:
            return refusal
        if body.get("stream"):
            return StreamingResponse(self._stream(body), media_type="text/event-stream")
        message = {"role": "assistant", "reasoning": "".join(THOUGHT), "content": "".join(ANSWER), "tool_calls": []}
        choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None, "token_ids": None}
        reply = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": self.model, "usage": USAGE}
        return JSONResponse({**reply, "choices": [choice]})

    async def _stream(self, body: dict[str, Any]) -> AsyncIterator[str]:
        deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
        deltas += [{"reasoning": text} for text in THOUGHT] + [{"content": text} for text in ANSWER]
        try:
            for number, delta in enumerate(deltas):
                if number == self.break_at:
                    raise ConnectionError("told so by the test")
                yield self._event([{"index": 0, "delta": delta, "finish_reason": None}])
                if number == 1:
                    yield ": keep-alive\n\n"
                    while not self.go_on:
                        await asyncio.sleep(0.01)
            yield self._event([{"index": 0, "delta": {}, "finish_reason": "stop"}])
            if (body.get("stream_options") or {}).get("include_usage"):
                yield self._event([], usage=USAGE)
            yield "data: [DONE]\n\n"
        except (asyncio.CancelledError, GeneratorExit):
            self.left.set()
            raise

    def _event(self, choices: list[dict[str, Any]], **more: Any) -> str:
        chunk = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": self.model}
        return f"data: {json.dumps({**chunk, 'choices': choices, **more})}\n\n"

    async def completions(self, request: Request) -> Response:
        body = await self._body(request)
        if (refusal := self._refusal()) is not None:
            return refusal
        choice: dict[str, Any] = {"index": 0, "text": "7", "finish_reason": "length", "logprobs": None}
        if body.get("return_token_ids"):
            lam = body["vllm_xargs"]["lambda"]
            top = {f"token_id:{i}": -1.0 - i - lam for i in range(20)}
            told = {"tokens": ["token_id:5"], "token_logprobs": [-0.25 - lam], "top_logprobs": [top]}
            choice |= {"token_ids": [5], "logprobs": told}
        return JSONResponse({"id": "cmpl-1", "object": "text_completion", "model": self.model, "choices": [choice]})

    async def responses(self, request: Request) -> Response:
        body = await self._body(request)
        if body.get("stream"):
            return StreamingResponse(self._events(), media_type="text/event-stream")
        return JSONResponse({"id": "resp_1", "object": "response", "model": self.model, "output": []})

    async def _events(self) -> AsyncIterator[str]:
        for kind in ("response.created", "response.completed"):
            response = {"id": "resp_1", "model": self.model, "output": []}
            yield f"event: {kind}\ndata: {json.dumps({'type': kind, 'response': response})}\n\n"
        yield 'event: response.output_text.delta\ndata: {"type": "response.output_text.delta", "delta": "7"}\n\n'
