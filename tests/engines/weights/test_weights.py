"""The λ switch: the weights of the merged checkpoint, in place, any number of times."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM

from mull.engines.base import Request, Sampling
from mull.engines.local.engine import LocalEngine
from mull.engines.weights import combining
from mull.engines.weights.combining import CPU_BLOCK
from mull.engines.weights.interpolated import InterpolatedModel
from mull.errors import MullError
from mull.merging.coefficients import Coefficients
from mull.tiny import checkpoint_folder

from ..conftest import CONFIGS, save_model


def load(
    instruct: Path, thinking: Path, donor: str = "thinking", dtype: torch.dtype | None = None, device: str = "cpu"
) -> InterpolatedModel:
    return InterpolatedModel(
        instruct,
        thinking,
        donor=donor,  # type: ignore[arg-type]
        device=torch.device(device),
        dtype=dtype,
        trust_remote_code=False,
    )


def state(folder: Path) -> dict[str, Tensor]:
    return AutoModelForCausalLM.from_pretrained(folder, dtype="auto").state_dict()


def live(model: InterpolatedModel) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.model.state_dict().items()}


@pytest.mark.parametrize("kind", list(CONFIGS))
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_are_the_exact_mixture_rounded_once(pairs, kind: str, dtype: torch.dtype) -> None:
    model = load(*pairs(kind), dtype=dtype)
    instruct, thinking = (state(folder) for folder in pairs(kind))
    for lam in (0.3, 0.8):
        model.set(Coefficients.scalar(lam))
        differing = 0
        for name, tensor in live(model).items():
            mixed = torch.lerp(instruct[name].double(), thinking[name].double(), lam).to(torch.bfloat16)
            # transformers keeps the routers' biases in float32.
            assert tensor.dtype == (torch.float32 if "correction_bias" in name else dtype)
            differing += int((tensor != mixed.to(tensor.dtype)).sum())
            torch.testing.assert_close(tensor, mixed.to(tensor.dtype), rtol=2**-7, atol=1e-8)
        # float32 arithmetic lands on the other side of a rounding boundary now and then.
        assert differing < 1e-3 * sum(parameter.live.numel() for parameter in model.parameters)


def test_ends_are_exact_and_nothing_drifts(pairs) -> None:
    model = load(*pairs("qwen3"))
    addresses = {name: parameter.data_ptr() for name, parameter in model.model.named_parameters()}
    model.set(Coefficients.scalar(0.3))
    first = live(model)
    model.set(Coefficients.scalar(0.8))
    assert any(not torch.equal(first[name], tensor) for name, tensor in live(model).items())
    for lam, side in ((0, 0), (1, 1)):
        model.set(Coefficients.scalar(lam))
        end = state(pairs("qwen3")[side])
        assert all(torch.equal(tensor, end[name].float()) for name, tensor in live(model).items())
    model.set(Coefficients.scalar(0.3))
    assert all(torch.equal(first[name], tensor) for name, tensor in live(model).items())
    assert addresses == {name: parameter.data_ptr() for name, parameter in model.model.named_parameters()}


def test_large_tensors_are_taken_in_pieces(pairs, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = load(*pairs("qwen3"))
    whole.set(Coefficients.scalar(0.37))
    monkeypatch.setattr("mull.engines.weights.combining.PIECE", 64)
    pieces = load(*pairs("qwen3"))
    pieces.set(Coefficients.scalar(0.37))
    expected = live(whole)
    assert all(torch.equal(expected[name], tensor) for name, tensor in live(pieces).items())


@pytest.mark.parametrize("dtype", [None, torch.float32])
def test_few_launches_away_from_the_cpu(pairs, monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype | None) -> None:
    """A large tensor is not cut into the CPU's small blocks; on the device "meta" nothing is computed."""
    calls: list[tuple[int, int]] = []

    def interpolate(i: Tensor, t: Tensor, lam: float, out: Tensor, *, block: int, **_: object) -> None:
        calls.append((out.numel(), block))

    monkeypatch.setattr("mull.engines.weights.combining.interpolate", interpolate)
    monkeypatch.setattr("mull.engines.weights.combining.PIECE", 64)
    for device in ("meta", "cpu"):
        model = load(*pairs("qwen3"), dtype=dtype, device=device)
        calls.clear()
        model.set(Coefficients.scalar(0.5))
        parameters = [parameter.live.numel() for parameter in model.parameters]
        if device == "meta":
            assert calls == [(count, 1 << 24) for count in parameters]
        else:
            assert sum(count for count, _ in calls) == sum(parameters)
            assert {block for _, block in calls} == {CPU_BLOCK}
            assert max(count for count, _ in calls) == 64


def test_several_threads_switch_to_the_same_bytes(pairs, monkeypatch: pytest.MonkeyPatch) -> None:
    one = load(*pairs("qwen3"))
    monkeypatch.setattr("mull.engines.weights.combining.WORTH_WORKERS", 0)
    monkeypatch.setattr("os.cpu_count", lambda: 3)
    several = load(*pairs("qwen3"))
    threads = 3
    torch.set_num_threads(threads)
    several.set(Coefficients.scalar(0.3))
    assert combining._workers(several.parameters) == 3
    monkeypatch.undo()
    one.set(Coefficients.scalar(0.3))
    assert combining._workers(one.parameters) == 1
    assert torch.get_num_threads() == threads
    assert all(a.live.equal(b.live) for a, b in zip(one.parameters, several.parameters, strict=True))


def test_coefficients_reach_the_layers_they_name(pairs) -> None:
    model = load(*pairs("qwen3"))
    model.set(Coefficients.per_layer([0.0, 1.0]))
    instruct, thinking = (state(folder) for folder in pairs("qwen3"))
    weights = live(model)
    for layer, end in ((0, instruct), (1, thinking)):
        name = f"model.layers.{layer}.mlp.up_proj.weight"
        assert torch.equal(weights[name], end[name].float())
    assert torch.equal(weights["model.embed_tokens.weight"], instruct["model.embed_tokens.weight"].float())


@pytest.mark.parametrize("donor", ["instruct", "thinking"])
@pytest.mark.parametrize("tied", [(True, True), (True, False), (False, True)])
def test_a_tied_sides_head_is_its_embedding(tmp_path: Path, tied: tuple[bool, bool], donor: str) -> None:
    folders = [
        save_model(tmp_path / str(side), CONFIGS["qwen3"](tie_word_embeddings=tie), seed=side)
        for side, tie in enumerate(tied)
    ]
    ends = [state(folder) for folder in folders]
    heads = [end["model.embed_tokens.weight" if tie else "lm_head.weight"] for end, tie in zip(ends, tied, strict=True)]
    model = load(*folders, donor=donor)
    donated = heads[donor == "thinking"]
    assert torch.equal(model.model.get_output_embeddings().weight, donated)
    model.set(Coefficients.scalar(0.25))
    head = model.model.get_output_embeddings().weight
    embedding = model.model.get_input_embeddings().weight
    torch.testing.assert_close(head, torch.lerp(heads[0], heads[1], 0.25))
    assert (head.data_ptr() == embedding.data_ptr()) == all(tied)
    assert ("lm_head.weight" in [parameter.name for parameter in model.parameters]) == (not all(tied))


def test_another_head_beside_a_tied_config_is_used(tmp_path: Path) -> None:
    folders = [
        save_model(tmp_path / str(side), CONFIGS["qwen3"](tie_word_embeddings=True), seed=side) for side in (0, 1)
    ]
    file = folders[1] / "model.safetensors"
    tensors = load_file(file)
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].flip(0)
    save_file(tensors, file, {"format": "pt"})
    model = load(*folders)
    model.set(Coefficients.scalar(1.0))
    assert torch.equal(model.model.get_output_embeddings().weight, tensors["lm_head.weight"].float())
    assert torch.equal(model.model.get_input_embeddings().weight, tensors["model.embed_tokens.weight"].float())


@pytest.mark.parametrize("donor", ["instruct", "thinking"])
def test_vocabulary_padding_is_the_donors(tmp_path: Path, donor: str) -> None:
    sizes = {"instruct": 64, "thinking": 80}
    folders = [
        save_model(tmp_path / side, CONFIGS["qwen3"](vocab_size=size), seed=seed)
        for seed, (side, size) in enumerate(sizes.items())
    ]
    model = load(*folders, donor=donor)
    model.set(Coefficients.scalar(0.5))
    instruct, thinking = (state(folder)["lm_head.weight"] for folder in folders)
    head = model.model.get_output_embeddings().weight
    assert len(head) == sizes[donor]
    torch.testing.assert_close(head[:64], torch.lerp(instruct, thinking[:64], 0.5))
    assert torch.equal(head[64:], thinking[64 : len(head)])


def test_other_architectures_are_refused(pairs, tmp_path: Path) -> None:
    with pytest.raises(MullError, match="k_norm"):
        load(pairs("qwen2")[0], pairs("qwen3")[1])
    wider = save_model(tmp_path / "wider", CONFIGS["qwen3"](intermediate_size=64), seed=0)
    with pytest.raises(MullError, match=r"mlp.*\(64, 32\)"):
        load(wider, pairs("qwen3")[1])


def test_weights_that_transformers_would_invent_are_refused(tmp_path):
    folder = tmp_path / "thinking"
    shutil.copytree(checkpoint_folder("thinking"), folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 7}))
    with pytest.raises(MullError, match=r"lacks 11 weights that its config asks for, first model\.layers\.6"):
        LocalEngine(folder, folder)


def test_weights_of_nan_end_with_a_sentence(tmp_path):
    folder = tmp_path / "thinking"
    shutil.copytree(checkpoint_folder("thinking"), folder)
    file = folder / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-4096:] = b"\xff\x7f" * 2048
    file.write_bytes(content)
    with pytest.raises(MullError, match="donor's logits are not numbers"):
        LocalEngine(folder, folder)
    engine = LocalEngine(checkpoint_folder("instruct"), folder, donor="instruct")
    engine.set_weights(Coefficients.scalar(0.5))
    prompt = engine.render([{"role": "user", "content": "Add up 3 4."}])
    for temperature in (0.0, 0.6):
        request = Request(id="a", prompt_ids=prompt, seed=0, sampling=Sampling(temperature=temperature, max_tokens=5))
        with pytest.raises(MullError, match="logits are not numbers"):
            list(engine.generate([request]))


def test_a_broken_chat_template_ends_with_a_sentence(tmp_path):
    folder = tmp_path / "thinking"
    shutil.copytree(checkpoint_folder("thinking"), folder)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**settings, "chat_template": "{% if %}"}))
    with pytest.raises(MullError, match="chat template fails"):
        LocalEngine(folder, folder).render([{"role": "user", "content": "hi"}])
