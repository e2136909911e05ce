"""Chooses λ for `auto`: the server behind is made to answer at once, or an end of the pair in this process reads."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Mapping
from typing import Any

import httpx2
from starlette.types import ASGIApp

from mull.benchmarks import AnswerForm
from mull.dynamic.base import Choice, Estimator, Need
from mull.dynamic.probing.end import End
from mull.dynamic.probing.served import measure_by
from mull.engines.local.prompts import Prompts
from mull.serving.front.rewriting import Route, rewritten
from mull.serving.levels import Undecided
from mull.serving.wire.errors import ApiError


class ByProbes:
    """Asks an estimator, whose measurements are requests to the server behind."""

    def __init__(
        self,
        inner: ASGIApp,
        base: str,
        prompts: Prompts,
        estimator: Estimator,
        form: AnswerForm,
        ends: Mapping[Need, End] | None = None,
    ) -> None:
        """`base`: the pair's name for the server behind. `form`: how answers are forced."""
        self._base, self._prompts, self._estimator, self._form = base, prompts, estimator, form
        self._ends = ends or {}
        self._client = httpx2.AsyncClient(transport=httpx2.ASGITransport(inner), base_url="http://behind", timeout=None)
        self._rendering = threading.Lock()
        """Templates are rendered in one process of their own, which takes one conversation at a time."""

    async def choose(self, asked: list[dict[str, str]] | str | list[int]) -> Choice:
        """λ of what is asked. Raises `MullError` where it cannot be rendered or measured, `ApiError` with the server's
        own refusal."""
        prompt = await asyncio.to_thread(self._ids, asked)
        needs = self._estimator.needs
        signals = await measure_by(self._complete, self._prompts, self._ends, prompt, needs, self._form)
        return self._estimator.choose(signals)

    def _ids(self, asked: list[dict[str, str]] | str | list[int]) -> tuple[int, ...]:
        if isinstance(asked, str):
            return self._prompts.encode(asked)
        if asked and isinstance(asked[0], int):
            return tuple(asked)  # type: ignore[arg-type]
        with self._rendering:
            return self._prompts.render(asked)  # type: ignore[arg-type]

    async def _complete(self, body: dict[str, Any], lam: float) -> Mapping[str, Any]:
        new = rewritten(body, Route.completions, base=self._base, lam=lam, undecided=Undecided())
        reply = await self._client.post("/v1/completions", json=new)
        try:
            found = reply.json()
        except json.JSONDecodeError:
            found = None
        if not reply.is_success or not isinstance(found, dict):
            said = found.get("error") if isinstance(found, dict) else None
            why = said.get("message") if isinstance(said, dict) else f"status {reply.status_code}"
            status = reply.status_code if reply.status_code in (400, 404, 413, 429, 502, 503, 504) else 502
            raise ApiError(status, f"λ could not be chosen: {why}", code="auto_failed")
        return found
