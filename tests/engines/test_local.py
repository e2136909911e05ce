"""The local engine against transformers' own forward and generate."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, MistralConfig

from mull.engines.base import Completion, Request, Sampling
from mull.engines.cache import RowCache
from mull.engines.local import LocalEngine
from mull.errors import MullError
from mull.merging.coefficients import Coefficients

from .conftest import COMMON, CONFIGS, STOP, VOCABULARY, save_model

Pairs = Callable[[str], tuple[Path, Path]]
GREEDY = Sampling(temperature=0, max_tokens=40)
DRAWN = Sampling(temperature=1.0, top_k=20, top_p=0.95, max_tokens=60)


def engine(pairs: Pairs, kind: str = "qwen3", **options: object) -> LocalEngine:
    return LocalEngine(*pairs(kind), **{"processes": 1} | options)  # type: ignore[arg-type]


def requests(count: int, sampling: Sampling, *, ragged: bool = True, longest: int = 30) -> list[Request]:
    rng = random.Random(0)
    made = []
    for index in range(count):
        prompt = tuple(rng.randrange(6, VOCABULARY) for _ in range(rng.randint(1, longest)))
        limit = rng.randint(1, sampling.max_tokens) if ragged else sampling.max_tokens
        parameters = Sampling(
            temperature=sampling.temperature, top_k=sampling.top_k, top_p=sampling.top_p, max_tokens=limit
        )
        made.append(Request(id=str(index), prompt_ids=prompt, seed=index, sampling=parameters))
    return made


def by_id(completions: object) -> dict[str, Completion]:
    return {completion.id: completion for completion in completions}  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", list(CONFIGS))
def test_greedy_equals_transformers_generate(pairs: Pairs, kind: str) -> None:
    """Mixed prompts in few slots: rows finish, refill and are sorted on the way."""
    local = engine(pairs, kind, batch_size=8)
    reference = AutoModelForCausalLM.from_pretrained(pairs(kind)[1], dtype=torch.float32)
    wanted = requests(24, GREEDY)
    found = by_id(local.generate(wanted))
    assert found.keys() == {request.id for request in wanted}
    for request in wanted:
        prompt = torch.tensor([request.prompt_ids])
        expected = reference.generate(
            prompt, do_sample=False, max_new_tokens=request.sampling.max_tokens, attention_mask=torch.ones_like(prompt)
        )[0, prompt.shape[1] :].tolist()
        completion = found[request.id]
        assert list(completion.token_ids) == expected
        assert completion.finish == ("stop" if expected[-1] == STOP else "length")
        assert completion.text == local.tokenizer.decode(expected, skip_special_tokens=True)
        assert completion.seconds > 0


@pytest.mark.parametrize("kind", list(CONFIGS))
def test_logprobs_equal_an_unbatched_forward(pairs: Pairs, kind: str) -> None:
    local = engine(pairs, kind, batch_size=16)
    reference = AutoModelForCausalLM.from_pretrained(pairs(kind)[1], dtype=torch.float32)
    wanted = requests(20, DRAWN)
    found = by_id(local.generate(wanted))
    for request in wanted:
        completion = found[request.id]
        text = torch.tensor([request.prompt_ids + completion.token_ids])
        with torch.no_grad():
            logprobs = reference(text).logits[0].log_softmax(-1)
        start = len(request.prompt_ids)
        expected = [logprobs[start - 1 + i, token].item() for i, token in enumerate(completion.token_ids)]
        np.testing.assert_allclose(completion.logprobs, expected, atol=2e-4)


@pytest.mark.parametrize("kind", ["qwen3", "llama"])
def test_a_response_does_not_depend_on_its_batch(pairs: Pairs, kind: str) -> None:
    """Bit for bit, logprobs included: alone, shuffled, at other batch sizes, in other processes, from a generator."""
    wanted = requests(70, Sampling(temperature=1.2, top_k=0, top_p=0.98, max_tokens=180))
    mixed = [
        request if index % 3 else Request(id=request.id, prompt_ids=request.prompt_ids, seed=0, sampling=GREEDY)
        for index, request in enumerate(wanted)
    ]
    local = engine(pairs, kind, batch_size=64, threads=1)
    stripped = _without_seconds(local.generate(mixed))
    shuffled = random.Random(1).sample(mixed, len(mixed))
    assert _without_seconds(local.generate(shuffled)) == stripped
    alone = [mixed[i] for i in (0, 1, 2, 33, 69)]
    for request in alone:
        assert _without_seconds(local.generate([request]))[request.id] == stripped[request.id]
    for batch_size, processes in ((1, 1), (5, 1), (24, 1), (12, 2)):
        other = engine(pairs, kind, batch_size=batch_size, processes=processes)
        chosen = mixed[:12] if batch_size == 1 else mixed
        found = _without_seconds(other.generate(request for request in chosen))
        assert found == {request.id: stripped[request.id] for request in chosen}


def test_same_prompt_different_seeds(pairs: Pairs) -> None:
    """Rows that share a prompt share its prefill and nothing else."""
    local = engine(pairs, batch_size=8)
    prompt = tuple(range(10, 40))
    wanted = [Request(id=str(seed), prompt_ids=prompt, seed=seed, sampling=DRAWN) for seed in range(30)]
    found = by_id(local.generate(wanted))
    alone = {request.id: next(iter(local.generate([request]))) for request in wanted[::7]}
    assert len({completion.token_ids for completion in found.values()}) > 25
    for key, completion in alone.items():
        assert completion.token_ids == found[key].token_ids


def test_stop_and_length(pairs: Pairs) -> None:
    local = engine(pairs)
    found = list(local.generate(requests(60, DRAWN, ragged=False)))
    assert {completion.finish for completion in found} == {"stop", "length"}
    for completion in found:
        assert STOP not in completion.token_ids[:-1]
        assert (completion.token_ids[-1] == STOP) == (completion.finish == "stop")
        assert len(completion.token_ids) == DRAWN.max_tokens or completion.finish == "stop"
        assert len(completion.logprobs) == len(completion.token_ids)


def test_context_cuts_the_response(pairs: Pairs) -> None:
    local = engine(pairs)
    local.stop_ids = frozenset()
    prompt = tuple(7 + i % 50 for i in range(local.context - 3))
    (completion,) = local.generate([Request(id="a", prompt_ids=prompt, seed=0, sampling=Sampling())])
    assert (len(completion.token_ids), completion.finish) == (3, "length")


@pytest.mark.parametrize(
    ("prompt", "complaint"), [((), "empty"), ((7,) * 256, "context"), ((7, VOCABULARY), "vocabulary")]
)
def test_prompts_that_cannot_be_served(pairs: Pairs, prompt: tuple[int, ...], complaint: str) -> None:
    with pytest.raises(MullError, match=complaint):
        list(engine(pairs).generate([Request(id="a", prompt_ids=prompt, seed=0, sampling=GREEDY)]))


def test_render_ends_in_the_assistants_turn(pairs: Pairs) -> None:
    assert engine(pairs).render([{"role": "user", "content": "w7 w8"}]) == (1, 7, 8, 2)


@pytest.mark.parametrize("processes", [1, 2])
def test_a_dropped_or_interrupted_iterator_leaves_the_engine_usable(pairs: Pairs, processes: int) -> None:
    local = engine(pairs, batch_size=8, processes=processes)
    wanted = requests(40, DRAWN)
    expected = _without_seconds(local.generate(wanted))
    iterator = local.generate(wanted)
    next(iterator)
    iterator.close()  # type: ignore[attr-defined]
    iterator = local.generate(wanted)
    next(iterator)
    with pytest.raises(KeyboardInterrupt):
        iterator.throw(KeyboardInterrupt)  # type: ignore[attr-defined]
    assert _without_seconds(local.generate(wanted)) == expected


def test_ctrl_c_inside_a_forward(pairs: Pairs, monkeypatch: pytest.MonkeyPatch) -> None:
    local = engine(pairs, batch_size=8)
    wanted = requests(20, DRAWN)
    expected = _without_seconds(local.generate(wanted))
    layer = local.model.model.layers[1].mlp
    with monkeypatch.context() as patch:
        patch.setattr(layer, "forward", _interrupt)
        with pytest.raises(KeyboardInterrupt):
            list(local.generate(wanted))
    assert _without_seconds(local.generate(wanted)) == expected


@pytest.mark.parametrize("processes", [1, 2])
def test_weights_must_not_change_under_a_run(pairs: Pairs, processes: int) -> None:
    local = engine(pairs, batch_size=8, processes=processes)
    iterator = local.generate(requests(40, DRAWN))
    next(iterator)
    local.set_weights(Coefficients.scalar(0.5))
    with pytest.raises(MullError, match="changed"):
        list(iterator)


def test_small_memory_only_slows(pairs: Pairs, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache of few positions admits fewer rows at a time; the responses are the same."""
    local = engine(pairs, batch_size=32)
    wanted = requests(20, DRAWN)
    expected = _without_seconds(local.generate(wanted))
    reserved: list[int] = []
    reserve = RowCache.reserve
    monkeypatch.setattr(RowCache, "reserve", lambda self, n, width: (reserved.append(n), reserve(self, n, width))[1])
    monkeypatch.setattr("mull.engines.local._cache_budget", lambda device: 1)
    assert _without_seconds(local.generate(wanted)) == expected
    assert max(reserved) == 8


def test_a_sliding_window_is_refused_by_name(tmp_path: Path) -> None:
    config = MistralConfig(**COMMON | {"sliding_window": 16})
    folders = [save_model(tmp_path / side, config, seed=0) for side in ("i", "t")]
    with pytest.raises(MullError, match="sliding window of model type 'mistral'"):
        LocalEngine(*folders)


def test_a_missing_folder_is_refused(pairs: Pairs, tmp_path: Path) -> None:
    with pytest.raises(MullError, match=r"config\.json"):
        LocalEngine(tmp_path / "none", pairs("qwen3")[1])


def _without_seconds(completions: object) -> dict[str, tuple[object, ...]]:
    return {
        key: (completion.token_ids, completion.logprobs, completion.text, completion.finish)
        for key, completion in by_id(completions).items()
    }


def _interrupt(*args: object) -> None:
    raise KeyboardInterrupt
