"""mull beside mergekit 0.1.5 on a small Qwen3 in float32, where they coincide; docs/decisions.md has the rest.

pytest -m mergekit                                  installs mergekit into an environment of its own
MULL_MERGEKIT=path/to/python pytest -m mergekit     takes one that has it
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from mull.checkpoints.checkpoint import Checkpoint
from mull.checkpoints.pair import Group
from mull.merging.coefficients import Coefficients
from mull.merging.methods import METHODS, make
from mull.merging.streaming.plan import plan_merge
from mull.merging.streaming.stream import merge

pytestmark = pytest.mark.mergekit
CONFIG: dict[str, Any] = {
    "head_dim": 8, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 64, "max_position_embeddings": 128, "tie_word_embeddings": True,
    "model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"], "torch_dtype": "float32",
}  # fmt: skip
Tensors = dict[str, Tensor]


class Case(NamedTuple):
    """One merge as each of the two is told to make it."""

    name: str
    parameters: dict[str, Any]
    at: float
    method: str
    """mergekit's name for the method."""
    options: dict[str, Any]
    """Its parameters for all models together."""
    each: tuple[dict[str, Any], ...] = ({}, {})
    """Its parameters for each model."""
    base: bool = True


def weighted(*weights: float, **more: Any) -> tuple[dict[str, Any], ...]:
    return tuple({"weight": weight, **more} for weight in weights)


LINE, ROWS = "linear", {"nuslerp_flatten": False}
BREAD = "breadcrumbs"
TA, DARE, DARE_TIES = "task_arithmetic", "dare_linear", "dare_ties"
MEAN = {"normalize": True}
FINE = {"max_iter": 100, "tol": 1e-7}
ALL, THREE = {"density": 1.0}, ({}, {}, {})
SAME = {
    "linear": Case("mi", {}, 0.3, LINE, {}, weighted(0.7, 0.3), base=False),
    "linear of three": Case("mi", {"weights": (0.2, 0.3, 0.5)}, 1, LINE, {}, weighted(2, 3, 5), base=False),
    "slerp": Case("slerp", {}, 0.3, "slerp", {"t": 0.3}, base=False),
    "nuslerp by tensor": Case("nuslerp", {"per": "tensor"}, 0.3, "nuslerp", {}, weighted(0.7, 0.3), base=False),
    "nuslerp by row": Case("nuslerp", {}, 0.3, "nuslerp", ROWS, weighted(0.7, 0.3), base=False),
    "nuslerp of task vectors": Case("nuslerp", {"per": "tensor"}, 0.3, "nuslerp", {}, weighted(0.7, 0.3)),
    "nuslerp of their rows": Case("nuslerp", {}, 0.3, "nuslerp", ROWS, weighted(1.4, 0.6)),
    "arithmetic": Case("ta", {}, 0.7, TA, {"lambda": 0.7}, weighted(1, 1)),
    "arithmetic, weighted": Case("ta", {"weights": (0.5, -0.2, 1.5)}, 1, TA, {}, weighted(0.5, -0.2, 1.5)),
    "ties": Case("ties", {}, 0.5, "ties", {"lambda": 0.5}, weighted(1, 1, density=0.2)),
    "ties of three": Case(
        "ties", {"density": 0.55, "weights": (0.5, 1, 2)}, 1, "ties", {}, weighted(0.5, 1, 2, density=0.55)
    ),
    "ties, summed": Case("ties", {"normalize": False}, 1, "ties", {"normalize": False}, weighted(1, 1, density=0.2)),
    "dare": Case("dare", ALL, 0.7, DARE, {"lambda": 0.7}, weighted(1, 1, **ALL)),
    "dare, normalized": Case("dare", {**ALL, **MEAN, "weights": (1, 3)}, 1, DARE, MEAN, weighted(1, 3, **ALL)),
    "dare ties": Case("dare_ties", ALL, 1, DARE_TIES, {}, weighted(1, 1, 1, **ALL)),
    "dare ties, normalized": Case("dare_ties", ALL | MEAN, 1, DARE_TIES, MEAN, weighted(1, 1, **ALL)),
    "breadcrumbs": Case(
        BREAD, {"density": 0.4, "gamma": 0.05}, 0.6, BREAD, {"lambda": 0.6}, weighted(1, 1, density=0.4, gamma=0.05)
    ),
    "breadcrumbs, weighted": Case(
        BREAD, {"weights": (0.5, 1, 2)}, 1, BREAD, {}, weighted(0.5, 1, 2, density=0.14, gamma=0.01)
    ),
    "model stock": Case("model_stock", {}, 1, "model_stock", {}),
    "model stock of three": Case("model_stock", {}, 1, "model_stock", {}, THREE),
    "karcher": Case("karcher", {}, 1, "karcher", FINE, base=False),
    "karcher of three": Case("karcher", {}, 1, "karcher", FINE, THREE, base=False),
    "sce": Case("sce", {"density": 0.25}, 1, "sce", {"select_topk": 0.25}),
    "sce of three": Case("sce", {"density": 0.5}, 1, "sce", {"select_topk": 0.5}, THREE),
    "sce of all elements": Case("sce", ALL, 1, "sce", {}, THREE),
    "della linear": Case(
        "della_linear",
        {**ALL, "epsilon": 0.0, "weights": (1, 2)},
        0.8,
        "della_linear",
        {"lambda": 0.8},
        weighted(1, 2, **ALL),
    ),
    "ties, a density each": Case(
        "ties",
        {"density": (0.2, 0.7)},
        1,
        "ties",
        {},
        ({"weight": 1, "density": 0.2}, {"weight": 1, "density": 0.7}),
    ),
    "della": Case(
        "della", {**ALL, "epsilon": 0.0, "weights": (1, 2)}, 0.8, "della", {"lambda": 0.8}, weighted(1, 2, **ALL)
    ),
}
HALF = {"density": 0.5, "weights": (1, 0)}
OTHER = {
    "dare, dropping": Case("dare", HALF, 1, DARE, {"rescale": True}, weighted(1, 0, density=0.5)),
    "dare, dropping, as it is": Case("dare", HALF, 1, DARE, {"rescale": False}, weighted(1, 0, density=0.5)),
    "della, dropping": Case(
        "della", HALF | {"epsilon": 0.2}, 1, "della", {"rescale": False}, weighted(1, 0, density=0.5, epsilon=0.1)
    ),
    "opposed": Case("model_stock", {}, 1, "model_stock", {}, ({}, {"folder": "opposite"})),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory, write_checkpoint: Callable[..., Path]) -> dict[str, Path]:
    """A base, three fine-tunes of it, and one that went the other way than the first."""
    wide, narrow, generator = 32, 16, torch.Generator().manual_seed(0)
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (64, 32), "model.norm.weight": (32,)}
    for layer in range(2):
        block = f"model.layers.{layer}."
        shapes |= {block + f"self_attn.{x}_proj.weight": (narrow, wide) for x in "kv"}
        shapes |= {block + f"self_attn.{x}_proj.weight": (wide, wide) for x in "qo"}
        shapes |= {block + f"self_attn.{x}_norm.weight": (8,) for x in "qk"}
        shapes |= {block + f"mlp.{x}_proj.weight": (48, wide) for x in ("gate", "up")}
        shapes |= {block + "mlp.down_proj.weight": (wide, 48)}
        shapes |= {block + f"{x}_layernorm.weight": (wide,) for x in ("input", "post_attention")}

    def noise(size: float) -> Tensors:
        return {name: size * torch.randn(shape, generator=generator) for name, shape in shapes.items()}

    base, shared = noise(1.0), noise(0.5)
    sides = {"base": base}
    for i in range(3):
        own = noise(0.3)
        sides[str(i)] = {name: base[name] + shared[name] + own[name] for name in shapes}
    sides["opposite"] = {name: base[name] - 0.5 * (sides["0"][name] - base[name]) + noise(0.1)[name] for name in shapes}
    root = tmp_path_factory.mktemp("sides")
    return {name: write_checkpoint(root / name, side, **CONFIG) for name, side in sides.items()}


def names(case: Case) -> list[str]:
    return [each.get("folder", str(i)) for i, each in enumerate(case.each)]


@pytest.fixture(scope="module")
def theirs(
    mergekit: Callable[[Path], None], folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Tensors]:
    """What mergekit makes of every case, by one process: importing it takes longer than all of them."""
    root = tmp_path_factory.mktemp("theirs")
    for name, case in (SAME | OTHER).items():
        models = []
        for folder, each in zip(names(case), case.each, strict=True):
            parameters = {key: value for key, value in each.items() if key != "folder"}
            models.append({"model": str(folders[folder]), "parameters": parameters})
        config = {"models": models, "merge_method": case.method, "parameters": case.options, "dtype": "float32"}
        if case.base or case.method == "slerp":  # slerp's base is its first model
            config["base_model"] = str(folders["base" if case.base else "0"])
        (root / f"{name}.json").write_text(json.dumps(config))  # which is YAML too
    mergekit(root)
    return {name: loaded(root / name) for name in SAME | OTHER}


def loaded(folder: Path) -> Tensors:
    return {name: tensor for file in sorted(folder.glob("*.safetensors")) for name, tensor in load_file(file).items()}


def ours(case: Case, folders: dict[str, Path], out: Path) -> Tensors:
    base = Checkpoint(folders["base"]) if case.base else None
    group = Group([Checkpoint(folders[name]) for name in names(case)], base)
    plan = plan_merge(group, Coefficients.scalar(case.at), method=make(case.name, case.parameters))
    return loaded(merge(plan, out))


def test_every_method_is_compared() -> None:
    assert {case.name for case in SAME.values()} == METHODS.keys()


@pytest.mark.parametrize("name", SAME)
def test_the_same_to_rounding(name: str, theirs: dict[str, Tensors], folders: dict[str, Path], tmp_path: Path) -> None:
    got, wanted = ours(SAME[name], folders, tmp_path / "out"), theirs[name]
    assert got.keys() == wanted.keys()
    for key, tensor in got.items():
        assert (tensor - wanted[key]).abs().max() <= 2e-5, key  # mergekit computes in float32


def shares(merged: Tensors, folders: dict[str, Path]) -> dict[str, Tensor]:
    """Each element's change from the base as a multiple of the first model's, by tensor."""
    base, first = loaded(folders["base"]), loaded(folders["0"])
    return {key: (merged[key].double() - base[key]) / (first[key].double() - base[key]) for key in merged}


def test_dare_keeps_as_many_and_rescales_by_the_probability(
    theirs: dict[str, Tensors], folders: dict[str, Path], tmp_path: Path
) -> None:
    """The paper divides what is kept by the density; mergekit makes the sum of the sizes what it was, or leaves it."""
    case = OTHER["dare, dropping"]
    sides = {"mull": ours(case, folders, tmp_path / "out")} | {name: theirs[name] for name in OTHER if "dare" in name}
    for name, merged in sides.items():
        factors = shares(merged, folders)
        every = torch.cat([factor.flatten() for factor in factors.values()])
        kept = (every.abs() > 1e-3).double().mean()
        assert abs(kept - 0.5) < 4 * 0.5 / len(every) ** 0.5, name
        for key, factor in factors.items():
            wanted = {"mull": 2.0, "dare, dropping, as it is": 1.0}.get(name)
            if wanted is not None:
                assert ((factor.abs() < 1e-3) | ((factor - wanted).abs() < 1e-2)).all(), (name, key)
    base, first = loaded(folders["base"]), loaded(folders["0"])
    for key, merged in sides["dare, dropping"].items():
        before, after = ((side[key] - base[key]).abs().sum() for side in (first, {key: merged}))
        assert abs(after / before - 1) < 1e-4, key


def test_della_keeps_the_large_ones_more_often(
    theirs: dict[str, Tensors], folders: dict[str, Path], tmp_path: Path
) -> None:
    """mergekit's epsilon is half of the paper's. The paper divides what is kept by its own probability."""
    base, first = loaded(folders["base"]), loaded(folders["0"])
    mine = shares(ours(OTHER["della, dropping"], folders, tmp_path / "out"), folders)
    for factors in (mine, shares(theirs["della, dropping"], folders)):
        small, large = [], []
        for key, factor in factors.items():
            rows, kept = (first[key] - base[key]).abs(), (factor.abs() > 1e-3).double()
            if rows.dim() == 2:
                upper = ranks(rows) >= rows.shape[1] // 2
                small.append(kept[~upper])
                large.append(kept[upper])
            if factors is mine:
                probability = 0.5 + 0.2 * ((ranks(rows) + 0.5) / rows.shape[-1] - 0.5)
                assert ((kept == 0) | ((factor * probability - 1).abs() < 1e-2)).all()
        for values, wanted in ((small, 0.45), (large, 0.55)):
            every = torch.cat(values)
            assert abs(every.mean() - wanted) < 4 * 0.5 / len(every) ** 0.5


def ranks(rows: Tensor) -> Tensor:
    return rows.argsort(dim=-1).argsort(dim=-1)


def test_model_stock_of_opposed_models_is_the_base(
    theirs: dict[str, Tensors], folders: dict[str, Path], tmp_path: Path
) -> None:
    """The paper's geometry has no negative cosine; mergekit's t is then negative and leads away from both models."""
    base = loaded(folders["base"])
    got = ours(OTHER["opposed"], folders, tmp_path / "out")
    assert all(torch.equal(got[key], base[key]) for key in base)
    assert all((theirs["opposed"][key] - base[key]).abs().max() > 0.01 for key in base if base[key].dim() == 2)
