"""Prompts that begin as an earlier row did take its keys and values, within one λ and the memory that no row needs."""

from __future__ import annotations

import queue
import random
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
import torch

from mull.engines.base import Request, Sampling
from mull.engines.local.decoding import attention
from mull.engines.local.decoding.admission import PREFIX_SHARE, Admission
from mull.engines.local.decoding.cache import RowCache
from mull.engines.local.decoding.layout import ALL, Layout, Part, layout_of
from mull.engines.local.decoding.prefixes import LEAST, MOST_KEPT, Prefixes
from mull.engines.local.decoding.rows import Finished, Lookahead
from mull.engines.local.engine import LocalEngine
from mull.engines.local.streams import Ended, Streams

from .test_families import family_model

Tokens = tuple[int, ...]


def words(count: int, seed: int) -> Tokens:
    drawn = random.Random(seed)
    return tuple(drawn.randrange(6, 60) for _ in range(count))


def request(prompt: Tokens, lam: float | None = 0.4, *, tokens: int = 20, name: str = "r") -> Request:
    return Request(id=name, prompt_ids=prompt, seed=0, sampling=Sampling(temperature=0, max_tokens=tokens), lam=lam)


def answered(streams: Streams, requests: Iterable[Request]) -> list[Ended]:
    """The ends of responses that are decoded together."""
    ends: list[queue.SimpleQueue[Any]] = []
    for each in requests:
        ends.append(queue.SimpleQueue())
        streams.submit(each, lambda event, own=ends[-1]: own.put(event) if isinstance(event, Ended) else None)
    found = [end.get() for end in ends]
    assert all(end.error is None for end in found)
    return found


def same(one: Ended, other: Ended) -> None:
    assert one.finished is not None and other.finished is not None
    assert one.finished.token_ids == other.finished.token_ids
    assert one.finished.logprobs == pytest.approx(other.finished.logprobs, abs=1e-4)


@pytest.fixture(scope="module")
def engine(pairs: Any) -> LocalEngine:
    return LocalEngine(*pairs("qwen3"), by_row=True, processes=1, batch_size=8)


@pytest.mark.parametrize("kind", ["qwen3", "qwen2", "llama", "qwen3_moe", "deepseek_v3"])
def test_the_turns_of_a_conversation_are_answered_as_from_their_whole_prompts(pairs: Any, kind: str) -> None:
    """qwen2 has biases, deepseek_v3 keeps what keys and values are made from."""
    engine = LocalEngine(*pairs(kind), by_row=True, processes=1, batch_size=8)
    with Streams(engine) as kept, Streams(engine, prefix_bytes=0) as whole:
        prompt, expected = words(50, 1), 0
        for turn in range(3):
            (end,), (other,) = (answered(streams, [request(prompt)]) for streams in (kept, whole))
            same(end, other)
            assert (end.cached_tokens, other.cached_tokens) == (expected, 0)
            assert end.finished is not None
            text = prompt + end.finished.token_ids
            prompt = text + words(11, turn + 2)
            # All but the last generated token is in the cache, and the rest is rounded up to 16 tokens.
            expected = len(prompt) - 1 - -(-(len(prompt) - len(text)) // 16) * 16


def test_a_prompt_that_comes_again_is_not_computed_at_all(engine: LocalEngine) -> None:
    with Streams(engine) as streams:
        first, second = (answered(streams, [request(words(50, 1))])[0] for _ in range(2))
    assert first.finished and second.finished and first.finished.logprobs == second.finished.logprobs
    assert (first.cached_tokens, second.cached_tokens) == (0, 49)


def test_only_the_same_lambda_is_reused_and_only_the_same_beginning(engine: LocalEngine) -> None:
    with Streams(engine) as streams:
        answered(streams, [request(words(60, 1), 0.4)])
        other = words(44, 1) + words(40, 2)
        wanted = [request(words(60, 1), 0.40000001), request(words(60, 2)), request(words(LEAST - 1, 1))]
        assert [end.cached_tokens for end in answered(streams, wanted)] == [0, 0, 0]
        (end,) = answered(streams, [request(other)])
        assert end.cached_tokens == 83 - 48


@pytest.mark.parametrize("kind", ["mistral", "olmo3"])
def test_layers_with_a_window_get_the_whole_prompt(pairs: Any, kind: str) -> None:
    engine = LocalEngine(*pairs(kind), by_row=True, processes=1, batch_size=8)
    with Streams(engine) as streams:
        assert [answered(streams, [request(words(80, 1))])[0].cached_tokens for _ in range(2)] == [0, 0]


def test_states_cannot_be_cut_back_and_are_not_kept() -> None:
    assert Prefixes(layout_of(family_model("lfm2")), 1 << 30).most == 0
    assert Prefixes(layout_of(family_model("qwen3")), 1 << 30).most == 1 << 30


def test_a_row_without_a_lambda_of_its_own_is_not_kept(pairs: Any) -> None:
    """The engine's weights may be others when the next prompt comes."""
    engine = LocalEngine(*pairs("qwen3"), processes=1, batch_size=8)
    with Streams(engine) as streams:
        assert [answered(streams, [request(words(80, 1), None)])[0].cached_tokens for _ in range(2)] == [0, 0]


def test_rows_that_come_together_take_beginnings_of_several_lengths(engine: LocalEngine) -> None:
    """Two with a rest of the same length, two with the same prompt, one without a beginning."""
    firsts = [words(50, 1), words(70, 2), words(90, 3)]
    wanted = [firsts[0] + words(20, 4), firsts[1] + words(20, 5), *[firsts[2] + words(70, 6)] * 2, words(45, 7)]
    with Streams(engine) as kept, Streams(engine, prefix_bytes=0) as whole:
        for streams in (kept, whole):
            answered(streams, map(request, firsts))
        gate = queue.SimpleQueue[None]()
        kept.call(gate.get)  # so that all are there when the loop goes on
        pending = []
        for prompt in wanted:
            pending.append(queue.SimpleQueue[Any]())
            kept.submit(request(prompt), lambda e, own=pending[-1]: own.put(e) if isinstance(e, Ended) else None)
        gate.put(None)
        ends = [end.get() for end in pending]
        others = [end for prompt in wanted for end in answered(whole, [request(prompt)])]
    for end, other in zip(ends, others, strict=True):
        same(end, other)
    assert [end.cached_tokens for end in ends] == [69 - 32, 89 - 32, 159 - 80, 159, 0]


def test_a_cancelled_response_leaves_what_it_has_read(engine: LocalEngine) -> None:
    prompt = words(50, 1)
    with Streams(engine) as kept, Streams(engine, prefix_bytes=0) as whole:
        events = kept.tokens(request(prompt, tokens=200))
        begun = tuple(next(events).id for _ in range(9))  # type: ignore[union-attr]
        events.close()  # type: ignore[attr-defined]
        asked = request(prompt + begun + words(20, 2))
        (end,), (other,) = answered(kept, [asked]), answered(whole, [asked])
    same(end, other)
    assert end.cached_tokens >= 46


def run(engine: LocalEngine, free: int, prefix_bytes: int | None, groups: list[list[Request]]) -> list[Finished]:
    """The rows of one group after the other."""
    loop = engine.row_loop(free, prefix_bytes=prefix_bytes)
    rows = [[row for rows in loop.steps(Lookahead(group)) for row in rows] for group in groups]
    return [row for group in rows for row in sorted(group, key=lambda row: row.request.id)]


def test_kept_texts_fit_into_the_memory_that_rows_leave(engine: LocalEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Conversations one after the other, then a crowd that needs all of it: as many rows at once as without them."""
    turns = [request(words(60, i // 2) + words(20 * (i % 2), i), name=str(i)) for i in range(16)]
    alone = [[turn] for turn in turns]
    crowd = [request(words(60, 100 + i), tokens=150, name=f"crowd {i}") for i in range(24)]
    monkeypatch.setattr(engine, "_batch_size", 24)
    free = 2 * 16 * engine._layout.row_bytes(256)
    seen: list[tuple[int, int, int]] = []
    room, keep = Admission.make_room, Admission.keep

    def note(admission: Admission, *_: Any) -> None:
        cache, kept = admission._batch.cache, admission._prefixes.bytes
        stored = sum(tensor.nbytes for prefix in admission._prefixes._kept for tensor in prefix.tensors)
        assert kept == stored <= PREFIX_SHARE * admission._budget
        assert admission._bytes(cache.slots, cache.width) + kept <= admission._budget
        seen.append((cache.slots, admission._batch.slots.count, kept))

    monkeypatch.setattr(Admission, "make_room", lambda self, *args: (room(self, *args), note(self)))
    monkeypatch.setattr(Admission, "keep", lambda self, *args: (keep(self, *args), note(self)))
    found = run(engine, free, None, [*alone, crowd, *alone])
    most = max(live for _, live, _ in seen)
    begun, *_, last = (i for i, (_, live, _) in enumerate(seen) if live > 1)
    least = min(kept for _, _, kept in seen[begun:last])
    assert least < max(kept for _, _, kept in seen[:begun]) / 2, "thrown out for rows"
    assert seen[-1][2] > 0, "and kept again after them"
    seen.clear()
    expected = run(engine, free, 0, [*alone, crowd, *alone])
    assert most == max(live for _, live, _ in seen)
    assert [row.tokens.tolist() for row in found] == [row.tokens.tolist() for row in expected]
    assert sum(row.cached > 0 for row in found) > 8 and not any(row.cached for row in expected)


def test_a_text_that_cannot_be_kept_harms_no_response(engine: LocalEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise torch.OutOfMemoryError("out of memory")

    with Streams(engine) as streams:
        (first,) = answered(streams, [request(words(50, 1))])
        monkeypatch.setattr(RowCache, "copied", full)
        events = streams.tokens(request(words(90, 2), tokens=100))
        next(events)
        events.close()  # type: ignore[attr-defined]
        streams.call(lambda: None).result()  # behind the cancellation
        monkeypatch.undo()
        (again,) = answered(streams, [request(words(50, 1))])
    same(first, again)
    assert again.cached_tokens == 0


LAYOUT = Layout({0: {"keys": Part((1, 1, 4), torch.float32, ALL)}}, {}, torch.device("cpu"))
TOKEN = 16  # bytes


def filled(most: int) -> tuple[Prefixes, RowCache]:
    cache = RowCache(LAYOUT)
    cache.resize(1, 256)
    return Prefixes(LAYOUT, most), cache


def text(first: int, length: int) -> np.ndarray:
    return np.arange(first, first + length)


def test_memory_is_bounded_and_what_was_used_longest_ago_goes_first() -> None:
    prefixes, cache = filled(300 * TOKEN)
    for first in (0, 1000, 2000):
        prefixes.add(0.5, text(first, 100), 40, cache, 0, 1 << 30)
    assert prefixes.bytes == 300 * TOKEN
    assert prefixes.find(0.5, text(0, 90))[1] == 90  # now the last one used
    prefixes.add(0.5, text(3000, 100), 40, cache, 0, 1 << 30)
    assert [prefixes.find(0.5, text(first, 100))[1] for first in (1000, 2000, 0, 3000)] == [40, 40, 100, 100]
    prefixes.shrink(150 * TOKEN)  # all responses have gone, and a text
    assert [prefixes.find(0.5, text(first, 100))[1] for first in (1000, 2000, 0, 3000)] == [0, 40, 40, 40]
    prefixes.shrink(0)
    assert prefixes.bytes == 0 and prefixes.find(0.5, text(0, 90)) == (None, 0)


def test_a_text_that_is_too_long_is_kept_as_far_as_there_is_room() -> None:
    prefixes, cache = filled(100 * TOKEN)
    prefixes.add(0.5, text(0, 200), 150, cache, 0, 1 << 30)
    assert prefixes.find(0.5, text(0, 200))[1] == 100
    prefixes.add(0.5, text(1000, 90), 50, cache, 0, 60 * TOKEN)
    assert prefixes.find(0.5, text(1000, 90))[1] == 60
    prefixes.add(0.5, text(2000, 90), 50, cache, 0, 5 * TOKEN)
    assert prefixes.find(0.5, text(2000, 90))[1] == 0


def test_a_turn_replaces_the_turns_before_it_and_no_other_conversation() -> None:
    prefixes, cache = filled(1 << 30)
    prefixes.add(0.5, text(0, 200), 60, cache, 0, 1 << 30)
    prefixes.add(0.7, text(0, 200), 60, cache, 0, 1 << 30)
    other = np.concatenate([text(0, 45), text(5000, 50)])  # the same instructions, another question
    prefixes.add(0.5, other, 70, cache, 0, 1 << 30)
    assert prefixes.bytes == (200 + 200 + 95) * TOKEN
    later = np.concatenate([text(0, 57), text(7000, 50)])  # without the thought, and the template's opening of it
    prefixes.add(0.5, later, 90, cache, 0, 1 << 30)
    assert prefixes.bytes == (200 + 95 + 107) * TOKEN
    assert prefixes.find(0.5, text(0, 200))[1] == 57 and prefixes.find(0.7, text(0, 200))[1] == 200


def test_no_more_texts_are_kept_than_can_be_searched() -> None:
    prefixes, cache = filled(1 << 30)
    for number in range(MOST_KEPT + 5):
        prefixes.add(0.5, text(1000 * number, 40), 40, cache, 0, 1 << 30)
    assert prefixes.bytes == MOST_KEPT * 40 * TOKEN and prefixes.find(0.5, text(0, 40))[1] == 0


@pytest.mark.parametrize(("softcap", "heads"), [(None, 2), (None, 4), (5.0, 2), (5.0, 4)])
def test_attention_of_a_rest_is_that_of_the_whole_prompt(
    monkeypatch: pytest.MonkeyPatch, softcap: float | None, heads: int
) -> None:
    monkeypatch.setattr(attention, "REST_BLOCK", 16)
    torch.manual_seed(0)
    query, key, value = (torch.randn(2, count, 80, 8) for count in (heads, 2, 2))
    whole = attention._prefill(query, key, value, None, None, softcap)
    positions = torch.stack([torch.arange(30, 70), torch.arange(40, 80)])
    queries = torch.stack([query[0, :, 30:70], query[1, :, 40:80]])
    rest = attention._rest(queries, key, value, None, positions, softcap)
    assert torch.allclose(rest[0], whole[0, :, 30:70], atol=1e-5)
    assert torch.allclose(rest[1], whole[1, :, 40:80], atol=1e-5)
