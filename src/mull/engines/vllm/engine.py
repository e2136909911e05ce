# pyright: reportMissingImports=false
"""Generates with vLLM in this process; implements `mull.engines.base.Engine`.

One λ at a time with the weights of a merged checkpoint (`in_place/`), or a λ for every request (`per_request/`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from mull.engines.base import Completion, Request
from mull.engines.local.decoding.budget import RowBudget
from mull.engines.local.opening import End
from mull.engines.local.prompts import Prompts
from mull.engines.local.reading import TOP, Reading
from mull.engines.vllm import versions
from mull.engines.vllm.options import check
from mull.engines.vllm.per_request.requests import cache_salt
from mull.engines.vllm.told import listening
from mull.engines.weights.placement import Placement
from mull.errors import MullError
from mull.merging.coefficients import Coefficients
from mull.merging.coefficients.recipe import Recipe

AHEAD = 2
"""Requests given to vLLM, as a multiple of those that it runs at once: so many that it never waits for the next."""


@dataclass
class _Row:
    """A request under way."""

    request: Request
    begun: float
    limit: int
    """Most tokens of the response."""
    budget: RowBudget | None
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    round: int = 0
    """How often it was given to vLLM: once more after tokens were forced."""
    forced: int = 0
    """So many of the last tokens were forced, and their probabilities are still to come."""


class VllmEngine:
    """Generates from Θ(λ) on vLLM.

    Greedy texts are those of vLLM on a merged checkpoint. The last bits of logits depend on the batch, as always in
    vLLM; a request's seed fixes its random numbers.
    """

    def __init__(
        self,
        folders: Mapping[str, Path],
        *,
        donor: str = "thinking",
        dtype: str | None = None,
        batch_size: int | None = None,
        context: int | None = None,
        ends: Placement | None = None,
        by_row: bool = False,
        trust_remote_code: bool = False,
        prompts: Prompts | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        """Starts vLLM on the checkpoints in `folders`, by role ("instruct", "thinking" and further ones).

        `dtype` of the arithmetic, as torch calls it: by default float32 on CPU, else the checkpoint's. `batch_size`:
        most requests at once (vLLM's `max_num_seqs`). `context`: most tokens of prompt and response, by default the
        model's. `ends`: where both ends are kept beside the live weights; by default on the device. `by_row`: every
        request has its own λ, unrounded, at the memory and work of two models. `options`: further arguments of
        `vllm.LLM`; its `max_model_len` lowers the context.

        Raises `MullError` if vLLM is not here, was not tested, or cannot run the model, or for an option of mull's own.
        """
        version = versions.check()
        given = dict(options or {})
        check(given)
        self.prompts = prompts or Prompts(folders[donor], trust_remote_code)
        self.render = self.prompts.render
        self.context = min(context or self.prompts.context, self.prompts.context, given.pop("max_model_len", 1 << 62))
        if batch_size:
            given.setdefault("max_num_seqs", batch_size)
        self._by_row, self._trust = by_row, trust_remote_code
        self._folders = {side: Path(folders[side]) for side in ("instruct", "thinking")}
        self._read_by: dict[str, End] = {}
        dtype = dtype or versions.default_dtype(folders[donor])
        roles = ("instruct", "thinking") if by_row else tuple(folders)
        with versions.errors(str(folders[donor])), listening():
            self._llm = versions.start(
                {role: str(folders[role]) for role in roles},
                donor,
                by_row=by_row,
                ends=(ends or Placement.device).value,
                dtype=dtype,
                max_model_len=self.context,
                trust_remote_code=trust_remote_code,
                **given,
            )
        config = self._llm.llm_engine.vllm_config
        self._rows = config.scheduler_config.max_num_seqs
        self._label = "" if by_row else None
        self._numbers = iter(range(1 << 62))
        device = config.device_config.device_type
        self.kernels = f"vLLM {version} on {device}, {str(config.model_config.dtype).removeprefix('torch.')}"
        """What decides the last bits of responses, in words."""

    def set_weights(self, weights: Coefficients | Recipe) -> None:
        """Gives the workers' weights the bytes of a merged checkpoint, in place. No request may be under way."""
        if self._by_row:
            raise MullError("an engine with a λ per row has no weights to set", "Give each request its λ")
        recipe = weights if isinstance(weights, Recipe) else Recipe(weights)
        with versions.errors("the new weights"):
            versions.set_weights(self._llm, recipe.to_json())
        self._label = json.dumps(recipe.to_json(), sort_keys=True)

    def generate(self, requests: Iterable[Request]) -> Iterator[Completion]:
        """Completions in the order in which they finish; requests are taken as there is room.

        Samples of one prompt share its keys and values (vLLM's prefix cache, salted by λ). Raises `MullError` for an
        empty prompt and one that fills the context. A dropped or interrupted iterator takes its requests back.
        """
        if isinstance(requests, Sequence):  # find an error in the last request before work on the first
            for request in requests:
                self.check(request)
        return self._generate(iter(requests))

    def check(self, request: Request) -> Request:
        """`request`, if this engine can answer it; else raises `MullError`."""
        length = len(request.prompt_ids)
        if not 0 < length < self.context:
            raise MullError(
                f"the prompt of request {request.id!r} has {length} tokens and the context {self.context}",
                "Shorten the prompt" if length else "",
            )
        if (request.lam is not None) != self._by_row:
            asks = "names no λ" if request.lam is None else f"asks for λ = {request.lam:g}"
            has = "a λ per row" if self._by_row else "one λ for all rows"
            raise MullError(f"request {request.id!r} {asks}, and the engine has {has}")
        if self._label is None:
            raise MullError("no λ is chosen", "call set_weights first")
        return request

    def read(self, prompts: Sequence[Sequence[int]], lam: float, *, hidden: bool = True) -> Iterator[Reading]:
        """What Θ(λ) knows at the end of each prompt (token ids), in their order; for engines with a λ per row.

        vLLM tells the likeliest next tokens. `hidden` states are not to be had from it: they are read by the end of
        this λ, 0 or 1, which is then loaded into this process.

        Raises `MullError` for an empty prompt or one longer than the context, and for hidden states between the ends.
        """
        if not self._by_row:
            raise MullError("an engine without a λ per row reads prompts at its present weights only")
        for number, prompt in enumerate(prompts):
            if not 0 < len(prompt) < self.context:
                raise MullError(f"prompt {number} has {len(prompt)} tokens, and the context is {self.context}")
        if not hidden:
            with versions.errors("reading prompts"):
                found = versions.likeliest(self._llm, prompts, lam, cache_salt(lam), TOP)
            none = np.zeros((0, 0), np.float32)
            return (Reading(none, np.array(each, np.float32)) for each in found)
        if lam not in (0, 1):
            raise MullError(f"vLLM has no hidden states, and λ = {lam:g} is no end that could be loaded beside it")
        side = "thinking" if lam else "instruct"
        if side not in self._read_by:
            self._read_by[side] = End(self._folders[side], trust_remote_code=self._trust)
        return self._read_by[side].read(prompts)

    def _generate(self, waiting: Iterator[Request]) -> Iterator[Completion]:
        engine = self._llm.llm_engine
        rows: dict[str, _Row] = {}
        try:
            with versions.errors("the responses"):
                while True:
                    while len(rows) < AHEAD * self._rows and (request := next(waiting, None)) is not None:
                        row = self._row(self.check(request))
                        done = self._force(row)
                        if done:
                            yield self._completion(row, done)
                        else:
                            rows[self._send(row)] = row
                    if not rows:
                        return
                    for output in engine.step():
                        row = rows.get(output.request_id)
                        if row is None:
                            continue
                        ended = self._take(row, output)
                        if ended is None:
                            continue
                        del rows[output.request_id]
                        if not output.finished:
                            engine.abort_request([output.request_id])
                        if ended == "again":
                            rows[self._send(row)] = row
                        else:
                            yield self._completion(row, ended)
        finally:
            if rows:
                engine.abort_request(list(rows))
                while engine.has_unfinished_requests():
                    engine.step()

    def _row(self, request: Request) -> _Row:
        limit = min(request.sampling.max_tokens, self.context - len(request.prompt_ids))
        budget = self.prompts.budget(request)
        return _Row(request, perf_counter(), limit, RowBudget(budget) if budget else None)

    def _send(self, row: _Row) -> str:
        """Gives the row to vLLM: its prompt, and what it has of a response."""
        request = row.request
        name = f"{next(self._numbers)}"
        params = versions.sampling(
            request.sampling,
            # A row that goes on after forced tokens must not draw its first random numbers again.
            seed=(request.seed + row.round) % (1 << 63),
            max_tokens=row.limit - len(row.tokens),
            stop_ids=self.prompts.stop_ids,
            lam=request.lam,
            deltas=row.budget is not None,
            prompt_logprobs=row.forced > 0,
        )
        salt = self._label if request.lam is None else cache_salt(request.lam)
        prompt = {"prompt_token_ids": [*request.prompt_ids, *row.tokens], "cache_salt": salt}
        row.round += 1
        self._llm.llm_engine.add_request(name, prompt, params)
        return name

    def _take(self, row: _Row, output: Any) -> str | None:
        """Takes in what came. Returns "stop" or "length" if the row has ended, "again" if it goes on after forced
        tokens, else None."""
        if row.forced and output.prompt_logprobs is not None:
            known = versions.logprobs(output.prompt_logprobs[-row.forced :])
            row.logprobs[-row.forced :] = known
            row.forced = 0
        if row.budget is None and not output.finished:
            return None
        for part in output.outputs:
            pairs = zip(part.token_ids, versions.logprobs(part.logprobs or ()), strict=True)
            for token, logprob in pairs:
                row.tokens.append(token)
                row.logprobs.append(logprob)
                if row.budget is None:
                    continue
                row.budget.push(token)
                if row.budget.forced is not None and token not in self.prompts.stop_ids:
                    return self._force(row) or "again"
            if output.finished:
                return "stop" if part.finish_reason == "stop" else "length"
        return None

    def _force(self, row: _Row) -> str | None:
        """Puts the tokens in place that the budget demands now; "length" if no room for others is left."""
        while row.budget is not None and row.budget.forced is not None:
            if len(row.tokens) == row.limit:
                return "length"
            token = row.budget.forced
            row.budget.push(token)
            row.tokens.append(token)
            row.logprobs.append(0.0)
            row.forced += 1
        return "length" if len(row.tokens) == row.limit else None

    def _completion(self, row: _Row, finish: str) -> Completion:
        token_ids = tuple(row.tokens)
        text = self.prompts.text(token_ids)
        stopped = finish == "stop"
        return Completion(
            id=row.request.id,
            token_ids=token_ids,
            logprobs=tuple(row.logprobs),
            text=text,
            finish="stop" if stopped else "length",
            seconds=perf_counter() - row.begun,
            prompt_tokens=len(row.request.prompt_ids),
            forced=row.budget is not None and row.budget.used,
            thought_tokens=self.prompts.thought_tokens(token_ids, text, finished=stopped),
        )

    def close(self) -> None:
        """Ends vLLM's processes and frees its memory."""
        versions.shut_down(self._llm)
