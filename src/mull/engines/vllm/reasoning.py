# pyright: reportMissingImports=false
"""`--reasoning-parser mull`: thought and answer of a response, at λ where the model may answer without a thought.

A chat template that opens `<think>` leaves it open in such an answer. vLLM's own parsers take the whole of it for a
thought; here the rules of the local server hold (`mull.thinking`, `mull.engines.local.streaming.thought`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any

from vllm.entrypoints.generate.base.protocol import DeltaMessage
from vllm.reasoning.abs_reasoning_parsers import ReasoningParser

from mull.engines.local.streaming.thought import ThoughtStream
from mull.engines.vllm.marks import MARK, Reading
from mull.thinking import PLAIN, named_tags, split_thinking

_TAIL = 32
"""Tokens at the end of a prompt among which it may open a thought."""


class MullReasoning(ReasoningParser):
    """One for each response. vLLM tells it the prompt first, then the deltas, or the whole text."""

    engine_based_streaming = True  # it says itself when the thought has ended, and what is left at the end

    def __init__(self, tokenizer: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(tokenizer, *args, **kwargs)
        mark = (kwargs.get("chat_template_kwargs") or {}).get(MARK) or {}
        self._reading = Reading(mark.get("thought", Reading.hold))
        self._tools = bool(mark.get("tools", True))
        template = getattr(tokenizer, "chat_template", None)
        templates = template.values() if isinstance(template, dict) else [template or ""]
        self._tags = named_tags(templates, self.vocab) or PLAIN
        self._opened, self._prompt_tokens = True, 0
        self._stream: ThoughtStream | None = None
        self._limit: int | None = None
        self._count, self._last = 0, -1
        """How many tokens have come, and the last of them."""
        self._over = False
        """Whether the rest belongs to the answer, which vLLM goes on with."""
        self._told = {"thought": "", "answer": ""}

    @property
    def reasoning_start_str(self) -> str:
        return self._tags[0].open

    @property
    def reasoning_end_str(self) -> str:
        return self._tags[0].close

    def adjust_request(self, request: Any) -> Any:
        special = getattr(self.model_tokenizer, "all_special_tokens", ())
        if any(delimiter in special for delimiter in self._tags[0]):
            request.skip_special_tokens = False
        return request

    def is_reasoning_end(self, input_ids: Sequence[int]) -> bool:
        """Of a prompt: whether tools and formats hold from the first token of the response."""
        tail = self.model_tokenizer.decode(list(input_ids[-_TAIL:]), skip_special_tokens=False).rstrip()
        self._opened = any(tail.endswith(tags.open.rstrip()) for tags in self._tags)
        self._prompt_tokens = len(input_ids)
        return self._reading is Reading.plain or any(tail.endswith(tags.close) for tags in self._tags)

    def is_reasoning_end_streaming(self, input_ids: Sequence[int], delta_ids: Iterable[int]) -> bool:
        """For formats, in the engine's process: from the closing delimiter on they hold."""
        delta = list(delta_ids)
        if self._close_id is not None:
            return self._close_id in delta
        close = self.reasoning_end_str
        tail = self.model_tokenizer.decode(list(input_ids)[-len(delta) - len(close) :], skip_special_tokens=False)
        return close in tail

    def extract_content_ids(self, input_ids: list[int]) -> list[int]:
        close = self._close_id
        if close is not None and close in input_ids:
            return input_ids[len(input_ids) - input_ids[::-1].index(close) :]
        return input_ids

    def extract_reasoning(self, model_output: str, request: Any) -> tuple[str | None, str | None]:
        self._limit_by(request)
        tokens = len(self.model_tokenizer.encode(model_output, add_special_tokens=False))
        thought, answer = self._split(model_output, finished=not self._is_cut(tokens))
        self._told = {"thought": thought, "answer": answer}
        return thought or None, answer or None

    def extract_reasoning_streaming(
        self,
        previous_text: str,
        current_text: str,
        delta_text: str,
        previous_token_ids: Sequence[int],
        current_token_ids: Sequence[int],
        delta_token_ids: Sequence[int],
    ) -> DeltaMessage | None:
        if self._stream is None:
            hold, direct = self._reading is Reading.hold, self._reading in (Reading.direct, Reading.plain)
            self._stream = ThoughtStream(self._tags, opened=self._opened, hold=hold, direct=direct)
        self._count += len(delta_token_ids)
        self._last = delta_token_ids[-1] if delta_token_ids else self._last
        new = {"thought": "", "answer": ""}
        for piece in self._stream.push(delta_text):
            new[piece.kind] += piece.text
        for kind, text in new.items():
            self._told[kind] += text
        if self._tools and new["answer"]:  # what follows is vLLM's, which looks for calls in it
            self._over = True
            whole = self._stream.text
            new["answer"] = whole[split_thinking(whole, finished=False, tags=self._tags).end :].lstrip()
            self._told["answer"] = new["answer"]
        elif self._tools and self._last in self._ends:
            rest = self._rest(finished=True)
            self._over = bool(rest["answer"])
            new = {kind: new[kind] + rest[kind] for kind in new}
        return _message(new)

    def has_engine_confirmed_reasoning_end(self) -> bool:
        return self._over

    def get_streaming_fallback_content(self, previous_text: str, request: Any) -> None:
        """vLLM calls it before `finish_streaming`, with the request, whose limit tells whether a response was cut."""
        self._limit_by(request)

    def finish_streaming(self) -> DeltaMessage | None:
        """What is left at the end of a response."""
        if self._over or self._stream is None:
            return None
        cut = self._last not in self._ends and self._is_cut(self._count)
        return _message(self._rest(finished=not cut))

    def count_reasoning_tokens(self, token_ids: Sequence[int]) -> int:
        """Without delimiters."""
        thought = self._told["thought"]
        if not thought:
            return 0
        close, opens = self._close_id, token_ids[0] == self.vocab.get(self.reasoning_start_str)
        if close is not None and close in token_ids:
            return len(token_ids) - 1 - list(token_ids)[::-1].index(close) - opens
        if not self._told["answer"]:
            return len(token_ids) - (token_ids[-1] in self._ends) - opens
        return len(self.model_tokenizer.encode(thought, add_special_tokens=False))

    def _rest(self, *, finished: bool) -> dict[str, str]:
        """What has not been told of the whole text. An answer that was told as a thought is told once more."""
        assert self._stream is not None
        rest = {"thought": "", "answer": ""}
        if self._tools:
            whole = dict(zip(rest, self._split(self._stream.text, finished=finished), strict=True))
        else:
            parted = self._stream.finish(finished=finished)
            for piece in parted.pieces:
                rest[piece.kind] += piece.text
            whole = {"thought": "", "answer": parted.split.answer}
        for kind, text in whole.items():
            told = self._told[kind] + rest[kind]
            rest[kind] += text[len(told) :] if text.startswith(told) else ""
            self._told[kind] += rest[kind]
        return rest

    def _split(self, text: str, *, finished: bool) -> tuple[str, str]:
        """Thought and answer of a whole text. Cut off, it is a thought if the prompt opened one."""
        direct = self._reading in (Reading.direct, Reading.plain)
        split = split_thinking(text, finished=finished or not self._opened or direct, tags=self._tags)
        if not self._tools or split.kind == "unclosed":
            return split.thought, split.answer
        if split.kind == "closed":
            return split.thought, text[split.end :].strip()
        if split.kind == "pseudo-closed" and not direct:  # the tag in place of the delimiter may begin a call
            return split.thought, text[text.rindex("<", 0, split.end) :].strip()
        return "", text.strip()

    def _limit_by(self, request: Any) -> None:
        """The most tokens of the response; None if it is not known."""
        names = ("max_completion_tokens", "max_tokens", "max_output_tokens")
        given = (getattr(request, name, None) for name in names)
        self._limit = next((limit for limit in given if limit is not None), None)
        if self._limit is None and self._model_config is not None and self._prompt_tokens:
            self._limit = self._model_config.max_model_len - self._prompt_tokens

    def _is_cut(self, tokens: int) -> bool:
        return self._limit is not None and tokens >= self._limit

    @cached_property
    def _close_id(self) -> int | None:
        """The closing delimiter, if it is one token."""
        ids = self.model_tokenizer.encode(self.reasoning_end_str, add_special_tokens=False)
        return ids[0] if len(ids) == 1 else None

    @cached_property
    def _ends(self) -> frozenset[int]:
        """Tokens that end a response."""
        found = self._model_config.try_get_generation_config() if self._model_config is not None else {}
        ends = found.get("eos_token_id")
        given = ends if isinstance(ends, list) else [ends]
        return frozenset(each for each in (*given, self.model_tokenizer.eos_token_id) if each is not None)


def _message(new: dict[str, str]) -> DeltaMessage | None:
    """Of the pieces by kind; fields that are not set do not appear in the chunk."""
    names = {"thought": "reasoning", "answer": "content"}
    fields = {names[kind]: text for kind, text in new.items() if text}
    return DeltaMessage(**fields) if fields else None
