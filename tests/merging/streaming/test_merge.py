"""What a merge writes: bytes, names, files, permissions."""

import json
import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from mull.checkpoints.checkpoint import Checkpoint
from mull.checkpoints.headers import ITEM_BYTES
from mull.checkpoints.pair import Pair
from mull.errors import MullError
from mull.merging.coefficients import Coefficients
from mull.merging.streaming import devices
from mull.merging.streaming.plan import plan_merge
from mull.merging.streaming.stream import merge

Planned = Callable[..., Any]
ODD: dict[str, Tensor] = {
    "model.scalar": torch.tensor(1.5, dtype=torch.bfloat16),
    "model.empty": torch.zeros(0, 16, dtype=torch.bfloat16),
    "model.steps": torch.arange(5),
    "model.mask": torch.tensor([True, False, True]),
    "a.small": torch.tensor([1, 2, 3], dtype=torch.uint16),
}


def loaded(folder: Path) -> dict[str, Tensor]:
    return {name: tensor for file in sorted(folder.glob("*.safetensors")) for name, tensor in load_file(file).items()}


def same_bits(left: Tensor, right: Tensor) -> bool:
    return left.dtype == right.dtype and left.numpy(force=True).tobytes() == right.numpy(force=True).tobytes()


def as_bits(tensor: Tensor) -> Tensor:
    return (
        tensor.contiguous().view(torch.uint8)
        if tensor.numel() and tensor.dim()
        else tensor.reshape(-1).view(torch.uint8)
    )


def reference(instruct: Tensor, thinking: Tensor, lam: float, dtype: torch.dtype) -> Tensor:
    return (lam * thinking.double() + (1 - lam) * instruct.double()).to(dtype)


@pytest.mark.parametrize("lam", [0.0, 1.0])
@pytest.mark.parametrize("donor", ["instruct", "thinking"])
def test_the_ends_are_byte_for_byte(
    planned: Planned, tensors_of: Callable, tmp_path: Path, lam: float, donor: str
) -> None:
    sides = [{**tensors_of(seed), **ODD} for seed in (0, 1)]
    for side in sides:
        side["model.norm.weight"] = torch.tensor([0x7FC1, 0xFFC2, 0x7F80, 0x8000] * 4, dtype=torch.uint16).view(
            torch.bfloat16
        )
    plan = planned(
        lam, donor=donor, instruct={"tensors": sides[0], "shards": 2}, thinking={"tensors": sides[1], "shards": 3},
        allow_non_finite=True,
    )  # fmt: skip
    result = loaded(merge(plan, tmp_path / "out"))
    assert result.keys() == sides[0].keys()
    assert all(torch.equal(as_bits(result[name]), as_bits(sides[int(lam)][name])) for name in result)


def test_between_the_ends(planned: Planned, tensors_of: Callable, tmp_path: Path) -> None:
    sides = [{**tensors_of(0), **ODD}, {**tensors_of(1), **ODD, "model.steps": torch.arange(5) + 7}]
    plan = planned(0.8, instruct={"tensors": sides[0]}, thinking={"tensors": sides[1], "shards": 2})
    result = loaded(merge(plan, tmp_path / "out"))
    for name, tensor in result.items():
        if tensor.dtype == torch.bfloat16:
            assert torch.equal(tensor, reference(sides[0][name], sides[1][name], 0.8, torch.bfloat16)), name
        else:
            assert torch.equal(tensor, sides[1][name]), name
    names = [shard.file for shard in plan.shards]
    assert names == ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    index = json.loads((tmp_path / "out" / "model.safetensors.index.json").read_text())
    assert index["weight_map"].keys() == result.keys()
    assert index["metadata"]["total_size"] == sum(t.numel() * t.element_size() for t in result.values())
    assert Checkpoint(tmp_path / "out").tensors.keys() == result.keys()


def test_any_threads_and_pieces_give_the_same_bytes(
    planned: Planned, tensors_of: Callable, tmp_path: Path, digests: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    big = [{**tensors_of(s, rows=24), "model.big": torch.randn(70_003).bfloat16()} for s in (0, 1)]
    plan = planned(0.45, instruct={"tensors": big[0]}, thinking={"tensors": big[1], "shards": 2})
    wanted = digests(merge(plan, tmp_path / "wanted"))
    for threads, piece in ((1, 64), (2, 4096), (4, 1 << 14), (3, 1 << 20)):
        monkeypatch.setattr(devices.Host, "piece_size", piece)
        out = merge(plan, tmp_path / f"out{piece}", threads=threads)
        assert digests(out) == wanted


@pytest.mark.parametrize(
    ("dtype", "kind"), [("float32", torch.float32), ("float16", torch.float16), ("bfloat16", torch.bfloat16)]
)
@pytest.mark.parametrize("lam", [0.0, 0.7390851332151607])
def test_another_dtype(
    planned: Planned, tensors_of: Callable, tmp_path: Path, dtype: str, kind: torch.dtype, lam: float
) -> None:
    sides = [{**tensors_of(0, torch.float32), **ODD}, {**tensors_of(1), **ODD}]
    plan = planned(lam, dtype=dtype, instruct={"tensors": sides[0]}, thinking={"tensors": sides[1]})
    result = loaded(merge(plan, tmp_path / "out"))
    for name, tensor in result.items():
        if name in tensors_of(0):
            wanted = reference(sides[0][name], sides[1][name], lam, kind)
            assert torch.allclose(tensor.double(), wanted.double(), rtol=2.0**-7, atol=0) and tensor.dtype == kind
            assert (tensor != wanted).sum() <= 1
    assert result["model.steps"].dtype == torch.int64


def test_sides_of_different_dtypes_at_the_ends(planned: Planned, tensors_of: Callable, tmp_path: Path) -> None:
    instruct = tensors_of(0, torch.float32)
    result = loaded(merge(planned(0.0, instruct={"tensors": instruct}), tmp_path / "out"))
    assert all(torch.equal(result[name], instruct[name].bfloat16()) for name in result)


def test_float16_and_float32_checkpoints(two_sides: Callable, tensors_of: Callable, tmp_path: Path) -> None:
    for kind in (torch.float16, torch.float32):
        sides = [tensors_of(seed, kind) for seed in (0, 1)]
        folders = two_sides({"tensors": sides[0]}, {"tensors": sides[1]})
        folders = [folder.rename(tmp_path / f"{folder.name}-{kind}") for folder in folders]
        out = merge(
            plan_merge(Pair.open(*map(str, folders)), Coefficients.scalar(0.7390851332151607)), tmp_path / f"out-{kind}"
        )
        result = loaded(out)
        assert all(
            torch.equal(result[n], reference(sides[0][n], sides[1][n], 0.7390851332151607, kind)) for n in result
        )


def test_padded_rows_come_from_the_donor(planned: Planned, tensors_of: Callable, tmp_path: Path) -> None:
    sides = [tensors_of(0), tensors_of(1, rows=40)]
    name = "model.embed_tokens.weight"
    plan = planned(0.8, instruct={"tensors": sides[0]}, thinking={"tensors": sides[1], "vocab_size": 40})
    result = loaded(merge(plan, tmp_path / "out"))[name]
    assert torch.equal(result[:24], reference(sides[0][name], sides[1][name][:24], 0.8, torch.bfloat16))
    assert torch.equal(result[24:], sides[1][name][24:])


def test_the_shorter_side_as_donor(planned: Planned, tensors_of: Callable, tmp_path: Path) -> None:
    sides = [tensors_of(0), tensors_of(1, rows=40)]
    name = "model.embed_tokens.weight"
    plan = planned(0.8, donor="instruct", instruct={"tensors": sides[0]}, thinking={"tensors": sides[1]})
    result = loaded(merge(plan, tmp_path / "out"))[name]
    assert torch.equal(result, reference(sides[0][name], sides[1][name][:24], 0.8, torch.bfloat16))


def test_layers_and_modules(planned: Planned, tensors_of: Callable, tmp_path: Path) -> None:
    sides = [tensors_of(0), tensors_of(1)]
    plan = planned(Coefficients.only(1.0, layers=(1, 1), modules=["attention"]))
    for name, tensor in loaded(merge(plan, tmp_path / "out")).items():
        assert torch.equal(tensor, sides[".layers.1.self_attn." in name][name]), name


def test_shards_of_at_most_a_size(planned: Planned, tmp_path: Path, digests: Callable) -> None:
    plan = planned(0.5, shard_bytes=1000)
    assert len(plan.shards) > 3
    assert all(len(shard.tensors) == 1 or sum(t.nbytes for t in shard.tensors) <= 1000 for shard in plan.shards)
    out = merge(plan, tmp_path / "out")
    assert {path.name for path in out.glob("*.safetensors")} == {shard.file for shard in plan.shards}
    whole = loaded(merge(plan_merge(plan.group, plan.coefficients), tmp_path / "whole"))
    assert all(torch.equal(tensor, whole[name]) for name, tensor in loaded(out).items())


def test_the_files_beside_the_weights(planned: Planned, tmp_path: Path) -> None:
    plan = planned(0.8)
    donor = plan.group.thinking.folder
    for name in ("README.md", "mull.json", "training.json", "LICENSE", "modeling.py"):
        (donor / name).write_text(f"the donor's {name}")
    (donor / "modeling.py").chmod(0o700)
    (donor / "additional_chat_templates").mkdir()
    (donor / "additional_chat_templates" / "tool_use.jinja").write_text("tools")
    before = os.umask(0o027)
    try:
        out = merge(plan, tmp_path / "new" / "out", extra_files={"README.md": "card"})
    finally:
        os.umask(before)
    for path in plan.group.thinking.companions():
        assert (out / path.relative_to(donor)).read_bytes() == path.read_bytes()
    assert (out / "additional_chat_templates" / "tool_use.jinja").read_text() == "tools"
    assert (out / "README.md").read_text() == "card"
    assert {path.name for path in out.iterdir()} == {
        "LICENSE", "README.md", "additional_chat_templates", "chat_template.jinja", "config.json",
        "generation_config.json", "model.safetensors", "modeling.py", "mull.json", "tokenizer.json",
        "tokenizer_config.json",
    }  # fmt: skip
    assert {stat.S_IMODE(path.stat().st_mode) for path in out.rglob("*") if path.is_file()} == {0o640}
    assert stat.S_IMODE(out.stat().st_mode) == 0o750
    assert list(out.parent.iterdir()) == [out]


def test_the_manifest(planned: Planned, tmp_path: Path) -> None:
    import hashlib

    plan = planned(Coefficients.only(0.8, layers=(0, 0)))
    manifest = json.loads((merge(plan, tmp_path / "out", hash_inputs=True) / "mull.json").read_text())
    assert Coefficients.from_json(manifest["coefficients"]) == plan.coefficients
    assert (manifest["method"], manifest["donor"]) == ("mi", "thinking")
    assert any(finding.startswith("chat-template: ") for finding in manifest["findings"])
    source = plan.group.instruct.folder / "model.safetensors"
    assert manifest["instruct"]["name"] == source.parent.name
    entry = manifest["instruct"]["files"]["model.safetensors"]
    assert entry["bytes"] == source.stat().st_size
    assert entry["sha256"] == hashlib.sha256(source.read_bytes()).hexdigest()


def test_progress_counts_every_byte_one_thread_at_a_time(planned: Planned, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(devices.Host, "piece_size", 64)
    plan = planned(0.8, thinking={"shards": 3})
    told, inside = [], []

    def progress(nbytes: int) -> None:
        assert not inside
        inside.append(True)
        told.append(nbytes)
        inside.pop()

    merge(plan, tmp_path / "out", threads=4, progress=progress)
    assert sum(told) == plan.nbytes


def test_the_threads_of_others_are_left_alone(planned: Planned, tmp_path: Path) -> None:
    before = 3
    torch.set_num_threads(before)
    merge(planned(0.8), tmp_path / "out")
    later: list[int] = []
    thread = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert (torch.get_num_threads(), later) == (before, [before])


def test_mistakes_in_the_call(planned: Planned, tmp_path: Path) -> None:
    plan = planned(0.8)
    with pytest.raises(MullError, match="bfloat16, float16"):
        plan_merge(plan.group, plan.coefficients, dtype="int8")
    with pytest.raises(MullError, match="at least one thread"):
        merge(plan, tmp_path / "out", threads=0)


def test_a_plan_holds_still_and_reads_no_tensor(planned: Planned) -> None:
    plan = planned(0.8)
    assert plan.nbytes == sum(shard.nbytes for shard in plan.shards)
    assert plan.read_bytes == plan.group.instruct.nbytes + plan.group.thinking.nbytes
    again = plan_merge(plan.group, plan.coefficients)
    assert again.digest == plan.digest
    others: list[dict[str, Any]] = [{"shard_bytes": 1000}, {"shard_bytes": 1040}, {"dtype": "float32"}]
    for other in others:
        assert plan_merge(plan.group, plan.coefficients, **other).digest != plan.digest
    assert plan_merge(plan.group, Coefficients.scalar(0.81)).digest != plan.digest


def test_two_layouts_with_the_same_file_names_are_two_plans(planned: Planned) -> None:
    plan = planned(0.8)
    plans = [plan_merge(plan.group, plan.coefficients, shard_bytes=size) for size in range(900, 2400, 100)]
    digests = {tuple(shard.header for shard in plan.shards): plan.digest for plan in plans}
    assert len({len(headers) for headers in digests}) < len(digests) == len(set(digests.values()))


def test_every_tensor_is_aligned_whatever_its_new_dtype(planned: Planned, tensors_of: Callable, tmp_path: Path) -> None:
    odd = {"model.odd": torch.zeros(3), "model.steps": torch.arange(2, dtype=torch.int32)}
    sides = [{"tensors": {**tensors_of(seed, torch.float32), **odd}} for seed in (0, 1)]
    plan = planned(0.8, dtype="bfloat16", instruct=sides[0], thinking=sides[1])
    tensors = plan.shards[0].tensors
    assert {tensor.dtype for tensor in tensors} == {"BF16", "I32"}
    assert all(tensor.start % ITEM_BYTES[tensor.dtype] == 0 for tensor in tensors)
    assert loaded(merge(plan, tmp_path / "out"))["model.steps"].tolist() == [0, 1]
