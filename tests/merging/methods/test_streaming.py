"""The same bytes from files as from memory: for any threads, pieces, layouts of the inputs, λ at a time, and kills."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from mull.checkpoints.blocks import Buffer, Files
from mull.checkpoints.checkpoint import Checkpoint
from mull.checkpoints.headers import ITEM_BYTES, TensorInfo
from mull.checkpoints.pair import Group
from mull.merging.arithmetic.source import InMemory
from mull.merging.coefficients import Coefficients
from mull.merging.methods import METHODS, make
from mull.merging.streaming import devices, output, stream
from mull.merging.streaming.plan import MergePlan, plan_merge
from mull.merging.streaming.stream import merge, merge_all
from mull.merging.streaming.verify import verify

Write = Callable[..., Path]
Tensors = dict[str, Tensor]
CASES: list[tuple[str, dict[str, Any]]] = [
    ("mi", {}), ("mi", {"weights": (0.2, 0.3, 0.5)}), ("ta", {}), ("ties", {"density": 0.3}),
    ("ties", {"density": 0.3, "trim": "model"}), ("dare", {"density": 0.4}),
    ("dare_ties", {"density": 0.6, "normalize": True}), ("slerp", {}), ("nuslerp", {}), ("nuslerp based", {}),
    ("nuslerp", {"per": "tensor"}), ("karcher", {}), ("model_stock", {}), ("breadcrumbs", {}), ("della", {}),
    ("sce", {}),
]  # fmt: skip
EACH = pytest.mark.parametrize(("name", "parameters"), CASES, ids=str)
AT = 0.3819660113


def sides(many: int, kind: torch.dtype = torch.bfloat16, big: int = 140_003) -> list[Tensors]:
    """`many` fine-tunes and the base they came from, with shapes that no piece, block or row divides."""
    shapes = {
        "model.layers.0.mlp.big.weight": (big,), "model.layers.0.mlp.x.weight": (37, 101), "model.norm.weight": (17,),
        "model.layers.1.mlp.experts.weight": (3, 5, 67), "model.scalar": (), "model.empty": (0, 16), "model.y": (61, 1),
    }  # fmt: skip
    generator = torch.Generator().manual_seed(many)
    base = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    made = []
    for side in range(many + 1):
        noise = {name: 0.05 * side * torch.randn(shape, generator=generator) for name, shape in shapes.items()}
        made.append({name: (base[name] + noise[name]).to(kind) for name in shapes} | {"model.steps": torch.arange(5)})
    return [*made[1:], made[0]]


def written(folder: Path, write: Write, tensors: list[Tensors], shards: tuple[int, ...] = (1,) * 4) -> list[Path]:
    folders = []
    for place, (own, number) in enumerate(zip(tensors, shards, strict=False)):
        folders.append(write(folder / f"side{place}", own, shards=number))
    return folders


def planned(folders: list[Path], name: str, parameters: dict[str, Any], at: float = AT, **options: Any) -> MergePlan:
    """A plan for the models that the method takes, the last folder being the base."""
    name, _, based = name.partition(" ")
    method = make(name, parameters)
    models = folders[: 2 if method.max_models == 2 or (name == "mi" and not parameters) else 3]
    base = Checkpoint(folders[-1]) if method.base == "required" or based else None
    return plan_merge(
        Group([Checkpoint(folder) for folder in models], base), Coefficients.scalar(at), method=method, **options
    )


def loaded(folder: Path) -> Tensors:
    return {name: tensor for file in sorted(folder.glob("*.safetensors")) for name, tensor in load_file(file).items()}


def weights(digests: dict[str, str]) -> dict[str, str]:
    return {file: digest for file, digest in digests.items() if file.endswith(".safetensors")}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory, write_checkpoint: Write) -> list[Path]:
    return written(tmp_path_factory.mktemp("streamed"), write_checkpoint, sides(3), (1, 2, 3, 2))


@EACH
def test_threads_and_pieces_and_memory(
    name: str,
    parameters: dict,
    folders: list[Path],
    tmp_path: Path,
    digests: Callable,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plan = planned(folders, name, parameters)
    wanted = weights(digests(merge(plan, tmp_path / "wanted", threads=1)))
    for threads, piece in ((2, 1 << 12), (4, 1001), (3, 1 << 30)):
        monkeypatch.setattr(devices.Host, "piece_size", piece)
        assert weights(digests(merge(plan, tmp_path / str(piece), threads=threads))) == wanted
    inputs = [loaded(model.folder) for model in plan.group.models]
    base = loaded(plan.group.base.folder) if plan.group.base else None
    result = loaded(tmp_path / "wanted")
    mixed = [key for key in result if key != "model.steps"]
    sources = {key: InMemory(key, [own[key] for own in inputs], base[key] if base else None) for key in mixed}
    survey = plan.method.survey([*sources.values()], lambda f, xs: [f(x) for x in xs])
    for key, source in sources.items():
        flat = [model.reshape(-1) for model in source.models]
        out = torch.empty_like(flat[0])
        operation = plan.method.operation(source, AT, plan.method.measure(source, survey))
        operation.apply(flat, None if source.base is None else source.base.reshape(-1), out, 0)
        assert torch.equal(result[key].reshape(-1).view(torch.int16), out.view(torch.int16)), key


@EACH
def test_a_range_is_computed_as_it_is_within_the_whole(name: str, parameters: dict) -> None:
    """To the last bit of float64: what is cut off by rounding to bfloat16 would hide most differences."""
    name, _, based = name.partition(" ")
    method = make(name, parameters)
    *models, base = ({key: value.double() for key, value in side.items()} for side in sides(3, torch.float32))
    models = models[: 2 if method.max_models == 2 or (name == "mi" and not parameters) else 3]
    generator = random.Random(0)
    for key in ("model.layers.0.mlp.x.weight", "model.layers.1.mlp.experts.weight", "model.norm.weight", "model.y"):
        flat = [model[key].reshape(-1) for model in models]
        origin = base[key].reshape(-1) if method.base == "required" or based else None
        source = InMemory(key, [model[key] for model in models], None if origin is None else base[key])
        survey = method.survey([source], lambda f, xs: [f(x) for x in xs])
        operation = method.operation(source, AT, method.measure(source, survey))
        whole = torch.empty_like(flat[0])
        operation.apply(flat, origin, whole, 0)
        for _ in range(20):
            first = generator.randrange(len(whole)) // operation.align * operation.align
            last = min(first + generator.randint(1, len(whole)) // operation.align * operation.align, len(whole))
            part = torch.empty(last - first, dtype=torch.float64)
            # Copies: memory that begins elsewhere, as a buffer's does.
            cut = [model[first:last].clone() for model in flat]
            operation.apply(cut, None if origin is None else origin[first:last].clone(), part, first)
            assert torch.equal(part, whole[first:last]), (key, first, last)


@EACH
def test_the_layout_of_the_inputs_does_not_matter(
    name: str, parameters: dict, folders: list[Path], tmp_path: Path, write_checkpoint: Write
) -> None:
    generator = random.Random(name)
    shuffled = []
    for folder in folders:
        items = list(loaded(folder).items())
        generator.shuffle(items)
        shuffled.append(dict(items))
    others = written(tmp_path, write_checkpoint, shuffled, (4, 1, 2, 5))
    runs = ((folders, None), (others, None), (others, 20_000))
    results = [
        loaded(merge(planned(inputs, name, parameters, shard_bytes=size), tmp_path / f"out{i}"))
        for i, (inputs, size) in enumerate(runs)
    ]
    assert results[0].keys() == results[1].keys() == results[2].keys()
    for key, tensor in results[0].items():
        assert all(
            torch.equal(tensor.reshape(-1).view(torch.uint8), other[key].reshape(-1).view(torch.uint8))
            for other in results[1:]
        ), key


@pytest.fixture
def bytes_read(way: str, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Bytes of each read, or look at a mapped file, but the self-check's, which looks at every result."""
    counted: list[int] = []
    read, read_runs, elements, looking = Files.read, Files.read_runs, Files.elements, threading.local()

    def counting(self: Files, path: Path, offset: int, into: memoryview) -> None:
        assert not getattr(looking, "at", None), "read in spite of the mapping"
        counted.append(len(into))
        read(self, path, offset, into)

    def counting_elements(self: Files, info: TensorInfo, first: int, count: int, buffer: Buffer) -> Tensor:
        if way == "read":
            return elements(self, info, first, count, buffer)
        counted.append(count * ITEM_BYTES[info.dtype])
        looking.at = info
        try:
            return elements(self, info, first, count, buffer)
        finally:
            looking.at = None

    def counting_runs(self: Files, info: TensorInfo, starts: Any, length: int, into: memoryview) -> None:
        if way == "mapped":
            counted.append(len(into))
        read_runs(self, info, starts, length, into)

    def uncounted(*given: Any) -> int:
        before = len(counted)
        try:
            return verify(*given)
        finally:
            del counted[before:]

    monkeypatch.setattr(Files, "read", counting)
    monkeypatch.setattr(Files, "read_runs", counting_runs)
    monkeypatch.setattr(Files, "elements", counting_elements)
    monkeypatch.setattr(stream, "verify", uncounted)
    return counted


@pytest.mark.parametrize(
    ("name", "parameters"), [case for case in CASES if METHODS[case[0].split()[0]].coefficient is not None], ids=str
)
def test_several_coefficients_in_one_pass(
    name: str, parameters: dict, folders: list[Path], tmp_path: Path, digests: Callable, bytes_read: list[int]
) -> None:
    if "weights" in parameters:
        pytest.skip("weights take λ's place")
    places = (AT, 0.2, 0.9)
    first = planned(folders, name, parameters)
    plans = [plan_merge(first.group, Coefficients.scalar(at), method=first.method) for at in places]
    single, alone = [], []
    for place, plan in zip(places, plans, strict=True):
        bytes_read.clear()
        single.append(weights(digests(merge(plan, tmp_path / f"single{place}"))))
        alone.append(sum(bytes_read) - plan.read_bytes)
    assert len({json.dumps(one) for one in single}) == 3
    bytes_read.clear()
    together = merge_all(plans, [tmp_path / f"together{place}" for place in places], threads=3)
    assert [weights(digests(out)) for out in together] == single
    assert sum(bytes_read) == plans[0].read_bytes + alone[0]
    assert plans[0].method.measures or alone == [0, 0, 0]


CHILD = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {here!r})
from test_streaming import planned
from mull.merging.streaming.stream import merge
name, parameters, folders, out, last = {arguments!r}
done = 0
def progress(nbytes):
    global done
    done += nbytes
    if done >= last:
        os.kill(os.getpid(), signal.SIGKILL)
plan = planned([Path(folder) for folder in folders], name, parameters, shard_bytes=100_000)
merge(plan, Path(out), progress=progress)
"""


@pytest.mark.parametrize(
    ("name", "parameters", "share"),
    [
        ("ties", {"density": 0.3, "trim": "model"}, 0.99),
        *(
            pytest.param(name, parameters, share, marks=pytest.mark.slow)
            for name, parameters in CASES
            for share in (0.2, 0.6, 0.99)
        ),
    ],
    ids=str,
)
def test_killed_and_started_again(
    name: str, parameters: dict, share: float, folders: list[Path], tmp_path: Path, digests: Callable
) -> None:
    """What was measured before the kill is measured again, the shards that were finished stay."""
    plan = planned(folders, name, parameters, shard_bytes=100_000)
    told: list[int] = []
    wanted = digests(merge(plan, tmp_path / "wanted", progress=told.append))
    arguments = (name, parameters, [*map(str, folders)], str(tmp_path / "out"), share * sum(told))
    code = CHILD.format(here=str(Path(__file__).parent), arguments=arguments)
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert child.returncode == -signal.SIGKILL, child.stderr
    assert not (tmp_path / "out").exists()
    partial = output.partial_folder(tmp_path / "out")
    sizes = {shard.file: shard.nbytes for shard in plan.shards}
    before = {file: (partial / file).stat().st_mtime_ns for file in output.finished_shards(partial, plan.digest, sizes)}
    assert before or share < 0.99
    out = merge(plan, tmp_path / "out")
    assert digests(out) == wanted
    assert all((out / file).stat().st_mtime_ns == when for file, when in before.items() if before)
