import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from mull.checkpoints.checkpoint import Checkpoint
from mull.checkpoints.fingerprint import fingerprint
from mull.checkpoints.folder_files import check_companions
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
    copy = {**head, "lm_head.weight": head["model.embed_tokens.weight"].clone()}
    assert Checkpoint(write_checkpoint(tmp_path / "stated", copy, tie_word_embeddings=True)).tied
    assert not Checkpoint(write_checkpoint(tmp_path / "wrong", head, tie_word_embeddings=True)).tied
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
    for name in (
        "original/params.json", "checkpoint-20/trainer_state.json", "other/config.json", "other/model.safetensors",
        ".cache/lock.json", "__pycache__/modeling_x.pyc", "templates/.hidden", "templates/more/model.onnx",
        "templates/more/config.json", "templates/tool_use.jinja", "templates/deep/rag.jinja",
    ):  # fmt: skip
        (single / name).parent.mkdir(exist_ok=True, parents=True)
        (single / name).write_text("{}")
    assert [str(path.relative_to(single)) for path in Checkpoint(single).companions()] == [
        "LICENSE", "chat_template.jinja", "config.json", "generation_config.json", "merges.txt", "modeling_x.py",
        "tokenizer.json", "tokenizer.model", "tokenizer_config.json", "templates/deep/rag.jinja",
        "templates/tool_use.jinja",
    ]  # fmt: skip


def test_one_file_beside_other_shards(single: Path, sharded: Path) -> None:
    index = single / "model.safetensors.index.json"
    index.write_text('{"weight_map": {"model.norm.weight": "model.safetensors"}}')
    assert Checkpoint(single).files == [single / "model.safetensors"]
    index.write_text('{"weight_map": {"model.norm.weight": "model-00001-of-00001.safetensors"}}')
    with pytest.raises(Refused, match=r"both model\.safetensors and other shards \(model-00001-of-00001"):
        Checkpoint(single)
    for index_too in (True, False):
        shutil.copy(single / "model.safetensors", sharded)
        with pytest.raises(Refused, match=r"remove what is not meant: model\.safetensors, or the shards|Remove"):
            Checkpoint(sharded)
        if index_too:
            (sharded / index.name).unlink()


POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0f" * 32 + "\nsize 4711\n"


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json", "tokenizer.model", "new.jinja"])
def test_git_lfs_pointers_and_dangling_links_are_called_by_name(single: Path, name: str) -> None:
    (single / name).unlink(missing_ok=True)
    (single / name).write_text(POINTER)
    with pytest.raises(MullError, match=rf"{name} is a Git LFS pointer.*git lfs pull"):
        Checkpoint(single)
    (single / name).unlink()
    (single / name).symlink_to("../../blobs/0f0f")
    with pytest.raises(MullError, match=rf"{name} is a link to \.\./\.\./blobs/0f0f, which is missing.*again"):
        Checkpoint(single)


def test_a_dangling_shard_and_links_that_do_not_matter(single: Path, sharded: Path) -> None:
    (single / "pytorch_model.bin").symlink_to("gone")
    (single / ".link.json").symlink_to("gone")
    assert Checkpoint(single).tensors
    shard = sharded / "model-00002-of-00003.safetensors"
    shard.unlink()
    shard.symlink_to("gone")
    with pytest.raises(MullError, match=rf"{shard.name} is a link to gone, which is missing"):
        Checkpoint(sharded)


def test_links_out_of_the_folder_are_not_copied(single: Path, tmp_path: Path) -> None:
    (tmp_path / "private").mkdir()
    (tmp_path / "private" / "key.json").write_text('{"secret": 1}')
    check_companions(single)
    links = {
        "notes.json": tmp_path / "private" / "key.json",
        "deep/notes.json": tmp_path / "private" / "key.json",
        "folder": tmp_path / "private",
        "within": single / "deep",
    }
    (single / "deep").mkdir()
    (single / "deep" / "plain.json").write_text("{}")
    for name, target in links.items():
        (single / name).symlink_to(target)
        with pytest.raises(MullError, match=f"{name} is a link to "):
            check_companions(single)
        (single / name).unlink()
    (single / "alias.json").symlink_to("deep/plain.json")
    (single / "deep" / "logo.png").write_text(POINTER)
    with pytest.raises(MullError, match=r"logo\.png is a Git LFS pointer"):
        check_companions(single)
    (single / "deep" / "logo.png").unlink()
    check_companions(single)


def test_the_links_of_the_hubs_cache_are_followed(single: Path, tmp_path: Path) -> None:
    repository = tmp_path / "models--me--model"
    snapshot = repository / "snapshots" / "0123"
    (repository / "blobs").mkdir(parents=True)
    (snapshot / "additional_chat_templates").mkdir(parents=True)
    for i, path in enumerate(sorted(single.iterdir())):
        path.rename(repository / "blobs" / str(i))
        (snapshot / path.name).symlink_to(f"../../blobs/{i}")
    (repository / "blobs" / "rag").write_text("rag")
    (snapshot / "additional_chat_templates" / "rag.jinja").symlink_to("../../../blobs/rag")
    (tmp_path / "latest").symlink_to(snapshot)
    for folder in (snapshot, tmp_path / "latest"):
        assert Checkpoint(folder).tensors
        assert folder / "additional_chat_templates" / "rag.jinja" in Checkpoint(folder).companions()
        check_companions(folder)


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
