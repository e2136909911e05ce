"""The local engine against transformers' own forward and generate."""

from __future__ import annotations

import json
import random
import shutil
import weakref
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    GptOssConfig,
    Llama4TextConfig,
    MambaConfig,
    MiniMaxConfig,
    MistralConfig,
    PretrainedConfig,
)

from mull.engines.base import Completion, Request, Sampling
from mull.engines.local.arithmetic import arithmetic
from mull.engines.local.decoding.admission import Admission
from mull.engines.local.decoding.attention import StepMask
from mull.engines.local.decoding.cache import PromptRows, RowCache
from mull.engines.local.decoding.layout import ALL, Layout, Part, layout_of
from mull.engines.local.decoding.rows import Lookahead
from mull.engines.local.engine import LocalEngine, device_of
from mull.errors import MullError
from mull.merging.coefficients import Coefficients

from ..conftest import COMMON, CONFIGS, STOP, VOCABULARY, own_model, save_model

Pairs = Callable[[str], tuple[Path, Path]]
Sizes = list[tuple[int, int]]
GREEDY = Sampling(temperature=0, max_tokens=40)
DRAWN = Sampling(temperature=1.0, top_k=20, top_p=0.95, max_tokens=60)


def engine(pairs: Pairs, kind: str = "qwen3", **options: object) -> LocalEngine:
    return LocalEngine(*pairs(kind), **{"processes": 1} | options)  # type: ignore[arg-type]


@pytest.fixture
def caches(monkeypatch: pytest.MonkeyPatch) -> list[Sizes]:
    """The sizes (slots, width) that each cache made in the test was given, in order."""
    made: list[Sizes] = []
    init, resize = RowCache.__init__, RowCache.resize
    monkeypatch.setattr(RowCache, "__init__", lambda self, layout: (made.append([]), init(self, layout))[1])
    monkeypatch.setattr(
        RowCache, "resize", lambda self, slots, width: (made[-1].append((slots, width)), resize(self, slots, width))[1]
    )
    return made


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
        assert completion.text == local.prompts.tokenizer.decode(expected, skip_special_tokens=True)
        assert completion.seconds > 0


@pytest.mark.parametrize("kind", list(CONFIGS))
def test_logprobs_equal_an_unbatched_forward(pairs: Pairs, kind: str) -> None:
    local = engine(pairs, kind, batch_size=16)
    reference = own_model(pairs(kind)[1])
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


@pytest.mark.parametrize(("found", "step", "told"), [(32, 32, "steps of 32"), (None, 8, "may depend on its batch")])
def test_steps_and_prompts_have_as_many_rows_as_the_processor_needs(
    pairs: Pairs, monkeypatch: pytest.MonkeyPatch, found: int | None, step: int, told: str
) -> None:
    monkeypatch.setattr("mull.engines.local.engine.row_step", lambda model: found)
    local = engine(pairs, batch_size=40)
    shapes: list[tuple[int, int]] = []
    local.model.register_forward_pre_hook(
        lambda model, args, kwargs: shapes.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    list(local.generate(requests(40, GREEDY)))
    assert told in local.kernels
    assert {width % max(step, 16) for _, width in shapes if width > 1} == {0}
    assert {rows % step for rows, width in shapes if width == 1} == {0}
    assert min(rows for rows, width in shapes if width == 1) == step


@pytest.mark.parametrize("kind", ["qwen3", "gemma2"])
def test_a_response_does_not_depend_on_longer_prompts_beside_it(pairs: Pairs, kind: str) -> None:
    """torch's attention sums in another order for 208 positions than for 912, padded ones included."""
    local = engine(pairs, kind, batch_size=16, threads=1)
    local.context = 1024
    rng = random.Random(0)
    lengths = (200, 900, 300, 40, 200, 500)
    prompts = [tuple(rng.randrange(6, VOCABULARY) for _ in range(length)) for length in lengths]
    wanted = [Request(id=str(i), prompt_ids=prompt, seed=i, sampling=DRAWN) for i, prompt in enumerate(prompts)]
    together = _without_seconds(local.generate(wanted))
    for request in wanted:
        assert _without_seconds(local.generate([request]))[request.id] == together[request.id]


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
    local.prompts.stop_ids = frozenset()
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


@pytest.mark.parametrize(("slot_step", "share"), [(8, 0.13), (8, 0.3), (8, 0.6), (1, 0.13), (1, 0.4)])
def test_small_memory_only_slows(
    pairs: Pairs, monkeypatch: pytest.MonkeyPatch, caches: list[Sizes], slot_step: int, share: float
) -> None:
    """Long limits admit many rows, which then outgrow the cache: the youngest start again, the responses are the same.

    A slot step of 1, as on GPUs, lets a response depend on its batch in its last bits.
    """
    monkeypatch.setattr("mull.engines.local.decoding.admission.GROWTH", 64)
    local = engine(pairs, batch_size=32)
    local.prompts.stop_ids = frozenset()
    sampling = Sampling(temperature=1.2, top_k=0, top_p=1, max_tokens=200)
    wanted = requests(40, sampling, ragged=False)
    wanted[::3] = requests(40, sampling)[::3]  # so that rows of different ages meet
    expected = _without_seconds(local.generate(wanted))
    budget = int(max(slots * width for slots, width in caches[-1]) * share)
    per_position = layout_of(local.model).row_bytes(1)
    returned: list[int] = []
    send_back = Admission._send_back

    def watched(self: Admission, waiting: Lookahead, count: int) -> None:
        slots = self._batch.slots
        ages = sorted(slots.counts[slots.live].tolist())
        send_back(self, waiting, count)
        assert sorted(slots.counts[slots.live].tolist()) == ages[count:]
        returned.extend(ages[:count])

    monkeypatch.setattr(Admission, "_send_back", watched)
    local._fewest_rows = slot_step
    monkeypatch.setattr("mull.engines.local.engine.free_memory", lambda device: 2 * budget * per_position)
    found = _without_seconds(local.generate(wanted))
    assert max(slots * width for slots, width in caches[-1]) <= max(budget, slot_step * 256)
    if (slot_step, share) == (8, 0.13):  # too little to go beyond the fewest rows that a step can have
        assert {slots for slots, _ in caches[-1]} == {8}
    else:  # not as few rows as their limits would ask for
        assert max(slots for slots, _ in caches[-1]) > budget // 256
        assert len(returned) > 1
    if slot_step == 8:
        assert found == expected
        if share == 0.6:
            local = engine(pairs, batch_size=32, processes=2)
            local.prompts.stop_ids = frozenset()
            assert _without_seconds(local.generate(wanted)) == expected
    else:
        assert found.keys() == expected.keys()
        same = sum(found[key][0] == expected[key][0] for key in found)
        assert same >= 0.9 * len(found)


def test_the_cache_is_never_wider_than_its_longest_row_can_get(pairs: Pairs, caches: list[Sizes]) -> None:
    local = engine(pairs, batch_size=8)
    local.prompts.stop_ids = frozenset()
    list(local.generate([Request(id="a", prompt_ids=(7,) * 190, seed=0, sampling=Sampling(max_tokens=10))]))
    assert {width for _, width in caches[-1]} == {192, 256}
    list(local.generate([Request(id="a", prompt_ids=(7,) * 60, seed=0, sampling=Sampling(max_tokens=68))]))
    assert {width for _, width in caches[-1]} == {64, 128}


def test_one_layer_at_a_time_changes_its_size() -> None:
    """Old layers are gone before the next new one is made."""
    part = Part((1, 1, 4), torch.float32, ALL)
    cache = RowCache(Layout({layer: {"keys": part, "values": part} for layer in range(3)}, {}, torch.device("cpu")))
    cache.resize(2, 64)
    cache.begin_prefill(PromptRows(torch.arange(2), torch.tensor([60, 60])))
    given = torch.randn(2, 1, 60, 4)
    for layer in range(3):
        cache.update(given, given + 1, layer)
    old = [weakref.ref(layer["keys"]) for layer in cache.states.values()]
    alive: list[int] = []
    zeros = torch.zeros
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            torch,
            "zeros",
            lambda *args, **more: (alive.append(sum(ref() is not None for ref in old)), zeros(*args, **more))[1],
        )
        cache.resize(3, 128)
    assert alive == [3, 3, 2, 2, 1, 1]
    cache.resize(1, 64)
    for layer in cache.states.values():
        keys, values = layer["keys"], layer["values"]
        assert keys.shape == (1, 1, 64, 4)
        assert torch.equal(keys[:, :, :60], given[:1])
        assert torch.equal(values[:, :, :60], given[:1] + 1)
        assert not keys[:, :, 60:].any()


def test_a_position_costs_all_layers_and_one_again(pairs: Pairs) -> None:
    """2 layers, keys and values, 2 heads of 16 float32."""
    layout = layout_of(engine(pairs).model)
    assert layout.row_bytes(1) == (2 + 1) * 2 * 2 * 16 * 4
    assert layout.row_bytes(1000) == 1000 * layout.row_bytes(1)


def test_a_row_beyond_all_memory_is_named(pairs: Pairs, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that are too few to part may take all free memory, twice the budget, but no more."""
    local = engine(pairs)
    local.prompts.stop_ids = frozenset()
    wanted = [Request(id="a", prompt_ids=(7,) * 10, seed=0, sampling=Sampling(max_tokens=200))]
    per_position = layout_of(local.model).row_bytes(1)
    monkeypatch.setattr("mull.engines.local.engine.free_memory", lambda device: 8 * 256 * per_position)
    assert len(list(local.generate(wanted))) == 1
    monkeypatch.setattr("mull.engines.local.engine.free_memory", lambda device: 8 * 256 * per_position - 1)
    with pytest.raises(MullError, match="request 'a' has reached 193 tokens") as caught:
        list(local.generate(wanted))
    assert "--max-tokens" in caught.value.remedy


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory"),
        MemoryError(),
    ],
)
def test_out_of_memory_is_explained(pairs: Pairs, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(*args: object, **options: object) -> None:
        raise error

    local = engine(pairs)
    monkeypatch.setattr(local.model.model.layers[1].mlp, "forward", fail)
    monkeypatch.setattr("mull.engines.local.engine.check_supported", layout_of)
    with pytest.raises(MullError, match="out of memory on cpu while generating") as caught:
        list(local.generate(requests(1, GREEDY)))
    assert "--batch-size" in caught.value.remedy
    monkeypatch.setattr("transformers.AutoModelForCausalLM.from_pretrained", fail)
    with pytest.raises(MullError, match=r"out of memory while loading .*instruct") as caught:
        engine(pairs)
    assert "memory" in caught.value.remedy


def test_the_heads_inputs_are_contiguous(pairs: Pairs) -> None:
    """In 16 bits on CPU torch copies the head once for each row of a batch whose rows do not follow one another."""
    local = engine(pairs, dtype=torch.bfloat16)
    seen: list[bool] = []
    local.model.get_output_embeddings().register_forward_pre_hook(lambda _, args: seen.append(args[0].is_contiguous()))
    list(local.generate(requests(9, GREEDY)))
    assert seen and all(seen)


@pytest.mark.parametrize("device", ["cuda", "cuda:1", "mps", "meta", "toaster"])
def test_a_device_that_is_not_there(pairs: Pairs, monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for make in (lambda: engine(pairs, device=device), lambda: device_of(device)):
        with pytest.raises(MullError, match=device) as caught:
            make()
        assert "cpu" in caught.value.remedy


def test_a_gpu_beyond_the_last(pairs: Pairs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert arithmetic(pairs("qwen3")[1], device_of("cuda:1").type) == "local/bfloat16/cuda"
    with pytest.raises(MullError, match=r"cuda:2.*cuda:1"):
        device_of("cuda:2")


@pytest.mark.parametrize("dtype", [None, torch.float32, torch.bfloat16])
def test_arithmetic_is_known_without_loading(pairs: Pairs, dtype: torch.dtype | None) -> None:
    local = engine(pairs, device="cpu", dtype=dtype)
    assert local.model.dtype == dtype or dtype is None
    computed = f"local/{local.model.dtype}/{local.device.type}".replace("torch.", "")
    assert (arithmetic(pairs("qwen3")[1], "cpu") == computed) == (dtype in (None, torch.float32))


@pytest.mark.parametrize(
    ("config", "dtype"),
    [({"dtype": "float16"}, "float16"), ({"torch_dtype": "float32"}, "float32"), ({}, "bfloat16"), (None, None)],
)
def test_on_a_gpu_the_checkpoint_says_the_arithmetic(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: dict[str, str] | None, dtype: str | None
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    if config is None:
        with pytest.raises(MullError, match=r"config\.json"):
            arithmetic(tmp_path, device_of("auto").type)
        return
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    assert arithmetic(tmp_path, device_of("auto").type) == f"local/{dtype}/cuda"


@pytest.mark.parametrize(
    ("change", "complaint", "remedy"),
    [
        ({"model_type": "gpt-17"}, "config of .*gpt-17", "installed transformers"),
        (
            {"model_type": "own", "auto_map": {"AutoConfig": "own.OwnConfig"}},
            "Python code of its own",
            "--trust-remote-code",
        ),
    ],
)
def test_a_config_that_transformers_cannot_load(
    pairs: Pairs, tmp_path: Path, change: dict[str, object], complaint: str, remedy: str
) -> None:
    folder = shutil.copytree(pairs("qwen3")[0], tmp_path / "changed")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8")) | change
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(MullError, match=complaint) as caught:
        LocalEngine(folder, pairs("qwen3")[1])
    assert str(folder) in caught.value.what
    assert remedy in caught.value.remedy


@pytest.mark.parametrize("name", ["tokenizer.json", "model.safetensors"])
def test_a_broken_file_is_explained(pairs: Pairs, tmp_path: Path, name: str) -> None:
    folder = shutil.copytree(pairs("qwen3")[0], tmp_path / "changed")
    (folder / name).write_text("{}", encoding="utf-8")
    said = "cannot load the tokenizer of .*changed" if "tokenizer" in name else "changed/.* is not a safetensors file"
    with pytest.raises(MullError, match=said):
        LocalEngine(folder, pairs("qwen3")[1], donor="instruct")


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (GptOssConfig(**COMMON, head_dim=16, num_local_experts=4), "'gpt_oss' .attention with s_aux"),
        (MiniMaxConfig(**COMMON, layer_types=["linear_attention", "full_attention"]), "'minimax' .*cache of its own"),
        (MambaConfig(**COMMON), "'mamba' .it does not use the cache"),
        (Llama4TextConfig(**COMMON, head_dim=8), "'llama4_text' with chunked_attention"),
    ],
    ids=["gpt_oss", "minimax", "mamba", "llama4"],
)
def test_what_the_cache_cannot_do_is_refused_by_name(tmp_path: Path, config: PretrainedConfig, reason: str) -> None:
    folders = [save_model(tmp_path / side, config, seed=0) for side in ("i", "t")]
    with pytest.raises(MullError, match=f"no cache for model type {reason}") as caught:
        LocalEngine(*folders)
    assert "vLLM" in caught.value.remedy and "--endpoint" in caught.value.remedy


def test_the_check_fails_where_a_window_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = MistralConfig(**COMMON | {"sliding_window": 100})  # far beyond the check's few tokens
    folders = [save_model(tmp_path / side, config, seed=0) for side in ("i", "t")]
    mask = StepMask.for_window
    monkeypatch.setattr(StepMask, "for_window", lambda self, window, size: mask(self, size, size))  # all that is kept
    with pytest.raises(MullError, match="wrong for model type 'mistral'"):
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
