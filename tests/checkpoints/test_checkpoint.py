import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from mull.checkpoints.checkpoint import Checkpoint
from mull.checkpoints.fingerprint import fingerprint
from mull.errors import MullError, Refused


@pytest.fixture
def single(tmp_path: Path, write_checkpoint: Callable[..., Path], tensors_of: Callable[..., dict]) -> Path:
    return write_checkpoint(tmp_path / "single", tensors_of(0))


@pytest.fixture
def sharded(tmp_path: Path, write_checkpoint: Callable[..., Path], tensors_of: Callable[..., dict]) -> Path:
    return write_checkpoint(tmp_path / "sharded", tensors_of(0), shards=3)


def test_two_layouts_of_one_model_hold_the_same(single: Path, sharded: Path) -> None:
    one, many = Checkpoint.open(single), Checkpoint.open(str(sharded))
    assert {n: (t.shape, t.dtype) for n, t in one.tensors.items()} == {
        n: (t.shape, t.dtype) for n, t in many.tensors.items()
    }
    assert len({t.file for t in many.tensors.values()}) == 3
    assert (one.layers, one.parameters, one.nbytes) == (2, many.parameters, 2 * many.parameters)
    for name in one.tensors:
        assert torch.equal(one.tensor(name), many.tensor(name))


def test_tied_is_what_the_config_says_else_what_the_file_holds(
    tmp_path: Path, write_checkpoint: Callable[..., Path], tensors_of: Callable[..., dict]
) -> None:
    silent = write_checkpoint(tmp_path / "silent", tensors_of(0), drop=("tie_word_embeddings",))
    assert Checkpoint(silent).tied
    head = {**tensors_of(0), "lm_head.weight": torch.zeros(24, 16, dtype=torch.bfloat16)}
    assert not Checkpoint(write_checkpoint(tmp_path / "head", head, drop=("tie_word_embeddings",))).tied
    assert Checkpoint(write_checkpoint(tmp_path / "stated", head, tie_word_embeddings=True)).tied
    tied = Checkpoint(silent)
    assert tied.resolve("lm_head.weight") is tied.tensors["model.embed_tokens.weight"]


def test_no_model_folder(tmp_path: Path) -> None:
    with pytest.raises(MullError, match="no folder"):
        Checkpoint.open(str(tmp_path / "none"))
    (tmp_path / "file").write_text("")
    with pytest.raises(MullError, match="is a file"):
        Checkpoint.open(tmp_path / "file")
    with pytest.raises(MullError, match=r"no config\.json"):
        Checkpoint.open(tmp_path)
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(MullError, match="adapter"):
        Checkpoint.open(tmp_path)


def test_weights_that_are_not_there_or_not_safetensors(single: Path) -> None:
    weights = single / "model.safetensors"
    weights.rename(single / "pytorch_model.bin")
    with pytest.raises(Refused, match="save_pretrained"):
        Checkpoint(single)
    (single / "pytorch_model.bin").rename(single / "weights.safetensors")
    with pytest.raises(MullError, match=r"only weights\.safetensors"):
        Checkpoint(single)
    (single / "weights.safetensors").unlink()
    with pytest.raises(MullError, match="holds no weights"):
        Checkpoint(single)


def test_a_missing_shard(sharded: Path) -> None:
    (sharded / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(MullError, match=r"lacks 1 of 3 shards: model-00002-of-00003\.safetensors"):
        Checkpoint(sharded)


def test_a_truncated_shard(sharded: Path) -> None:
    path = sharded / "model-00002-of-00003.safetensors"
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(MullError, match="cut short"):
        _ = Checkpoint(sharded).tensors


def test_an_index_that_disagrees_with_its_shards(sharded: Path) -> None:
    path = sharded / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    for weight_map, said in (
        ({**index["weight_map"], "model.extra": "model-00001-of-00003.safetensors"}, "lists model.extra"),
        ({"a": "../model-00001-of-00003.safetensors"}, "no usable weight_map"),
        ({"a": 1}, "no usable weight_map"),
        ([], "no usable weight_map"),
        ({}, "lists no shards"),
    ):
        path.write_text(json.dumps({"weight_map": weight_map}))
        with pytest.raises(MullError, match=said):
            _ = Checkpoint(sharded).tensors
    path.write_text("{")
    with pytest.raises(MullError, match="not valid JSON"):
        Checkpoint(sharded)


def test_a_tensor_in_two_shards(sharded: Path) -> None:
    (sharded / "model-00002-of-00003.safetensors").write_bytes(
        (sharded / "model-00001-of-00003.safetensors").read_bytes()
    )
    with pytest.raises(MullError, match="is in both"):
        _ = Checkpoint(sharded).tensors


def test_companions_are_what_a_copy_needs(single: Path) -> None:
    others = (
        "README.md",
        "mull.json",
        "training.json",
        "optimizer.pt",
        ".gitattributes",
        "model.safetensors.index.json",
    )
    for name in (*others, "LICENSE", "modeling_x.py", "merges.txt", "tokenizer.model"):
        (single / name).write_text("{}")
    (single / "original").mkdir()
    assert [path.name for path in Checkpoint(single).companions()] == [
        "LICENSE", "chat_template.jinja", "config.json", "generation_config.json", "merges.txt", "modeling_x.py",
        "tokenizer.json", "tokenizer.model", "tokenizer_config.json",
    ]  # fmt: skip


def test_damaged_small_files(single: Path) -> None:
    (single / "config.json").write_text("[1]")
    with pytest.raises(MullError, match="not an object"):
        _ = Checkpoint(single).config
    (single / "config.json").write_bytes(b"\xff\xfe")
    with pytest.raises(MullError, match="not valid JSON"):
        _ = Checkpoint(single).config
    (single / "tokenizer.json").write_text('{"model": 3}')
    with pytest.raises(MullError, match="damaged tokenizer"):
        _ = Checkpoint(single).tokenizer.strings


def test_the_template_comes_from_either_place(single: Path) -> None:
    assert Checkpoint(single).tokenizer.opens_thought is False
    (single / "chat_template.jinja").unlink()
    assert Checkpoint(single).tokenizer.opens_thought is None
    opening = "{% if add_generation_prompt %}<think>\\n{% endif %}"
    closing = "{% if add_generation_prompt %}{% if enable_thinking is false %}<think>\n\n</think>{% endif %}{% endif %}"
    for template, opens in ((opening, True), (closing, False), ([{"name": "default", "template": opening}], True)):
        (single / "tokenizer_config.json").write_text(json.dumps({"chat_template": template}))
        assert Checkpoint(single).tokenizer.opens_thought is opens


def test_the_fingerprint_follows_the_content_not_the_place(single: Path, sharded: Path, tmp_path: Path) -> None:
    first = fingerprint(Checkpoint(single))
    moved = single.rename(tmp_path / "moved")
    assert fingerprint(Checkpoint(moved)) == first != fingerprint(Checkpoint(sharded))
    path = moved / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert fingerprint(Checkpoint(moved)) != first
