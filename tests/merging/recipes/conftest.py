"""Recipes in mergekit's language on a small Qwen3 of five layers, each with what must come of it, found by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from mull.checkpoints.names import layer_of
from mull.merging.recipes import MergeSettings, read_recipe
from mull.merging.streaming.plan import plan_merge
from mull.merging.streaming.stream import merge

LAYERS = 5
CONFIG: dict[str, Any] = {
    "head_dim": 8, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": LAYERS, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 64, "max_position_embeddings": 128, "tie_word_embeddings": False,
    "model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"], "torch_dtype": "float32",
}  # fmt: skip


class Wanted(NamedTuple):
    """What mull's method, as test_second_implementation.py writes it a second time, must make of one tensor."""

    method: str
    at: float
    parameters: dict[str, Any]


class Case(NamedTuple):
    """A recipe; BASE, ONE, TWO and THREE stand for the folders."""

    text: str
    wanted: Callable[[str], Wanted]
    models: tuple[str, ...]
    """In mull's order."""
    base: bool = False
    exact: bool = True
    """Whether mergekit makes the same of it, to rounding."""


def along(values: list[float], name: str, first: int = 0, last: int = LAYERS - 1) -> float:
    """A gradient at a tensor's layer; outside the layers its beginning."""
    layer = layer_of(name)
    return values[0] if layer is None else float(np.interp((layer - first) / (last - first), _even(values), values))


def _even(values: list[float]) -> list[float]:
    return np.linspace(0, 1, len(values)).tolist()


def arc(name: str) -> Wanted:
    if "self_attn" in name:
        return Wanted("slerp", along([0, 0.5, 0.3, 0.7, 1], name), {})
    return Wanted("slerp", along([1, 0.5, 0.7, 0.3, 0], name) if "mlp" in name else 0.5, {})


def by_halves(name: str) -> Wanted:
    layer = layer_of(name)
    if layer is None:
        return Wanted("slerp", 0.2 if "embed" in name else 0.4, {})
    return Wanted("slerp", 0.2 if layer < 2 else along([0.4, 0.9], name, 2), {})


def soup(name: str) -> Wanted:
    weights = np.array([along([1, 3], name), 2.0 if "mlp" in name else 1.0, 1.0])
    return Wanted("mi", 1.0, {"weights": tuple(weights / weights.sum())})


def sparse(name: str) -> Wanted:
    weights = (1.0, along([0, 0.3, 0.7, 1], name), 0.5 if "mlp" in name else 0.0)
    return Wanted("ties", 1.0, {"density": (along([1, 0.7, 0.1], name), 0.5, 0.33), "weights": weights})


def always(method: str, at: float = 1.0, **parameters: Any) -> Callable[[str], Wanted]:
    return lambda name: Wanted(method, at, parameters)


def models(*settings: str, folders: tuple[str, ...] = ("ONE", "TWO", "THREE")) -> str:
    """The `models:` of a recipe, each with its parameters in one line."""
    lines = [
        f"  - model: {folder}" + (f"\n    parameters: {{{each}}}" if each else "")
        for folder, each in zip(folders, settings, strict=False)
    ]
    return "models:\n" + "\n".join(lines) + "\n"


def of_task(method: str, *settings: str, top: str = "") -> str:
    return models(*settings) + f"merge_method: {method}\nbase_model: BASE\nparameters: {{{top}}}\ndtype: float32\n"


def layered(ranges: dict[tuple[int, int], str], top: str) -> str:
    text = "slices:\n"
    for (first, end), own in ranges.items():
        text += "  - sources:\n" + "".join(
            f"      - model: {folder}\n        layer_range: [{first}, {end}]\n" for folder in ("ONE", "TWO")
        )
        text += f"    parameters: {{{own}}}\n" if own else ""
    return text + f"merge_method: slerp\nbase_model: ONE\n{top}dtype: float32\n"


FILTERS = """parameters:
  t:
    - filter: self_attn
      value: [0, 0.5, 0.3, 0.7, 1]
    - filter: mlp
      value: [1, 0.5, 0.7, 0.3, 0]
    - value: 0.5
"""
ALL, A, AB, ABC = "density: 1", ("ONE",), ("ONE", "TWO"), ("ONE", "TWO", "THREE")
HALF = "weight: 1, density: 0.5"
CASES = {
    "linear of three": Case(
        models("weight: 1.0", "weight: 0.3", "weight: 0.5") + "merge_method: linear\ndtype: float32\n",
        always("mi", weights=(1 / 1.8, 0.3 / 1.8, 0.5 / 1.8)), ABC,
    ),
    "linear as it is": Case(
        models("weight: 0.6", "weight: 0.4") + "merge_method: linear\nparameters: {normalize: false}\n",
        always("mi", 0.4), AB,
    ),
    "linear, gradient and filter": Case(
        models("weight: [1, 3]", "weight: [{filter: mlp, value: 2}, {value: 1}]", "")
        + "merge_method: linear\nparameters: {weight: 1}\n",
        soup, ABC,
    ),
    "slerp": Case(
        models("", "", folders=("TWO", "ONE")) + "merge_method: slerp\nbase_model: ONE\nparameters: {t: 0.3}\n",
        always("slerp", 0.3), AB,
    ),
    "slerp by gradients": Case(layered({(0, 5): ""}, FILTERS), arc, AB),
    "slerp in two slices": Case(layered({(0, 2): "t: 0.2", (2, 5): "t: [0.4, 0.9]"}, ""), by_halves, AB),
    "nuslerp": Case(
        models("weight: 2", "weight: 1") + "merge_method: nuslerp\n", always("nuslerp", 1 / 3, per="tensor"), AB
    ),
    "nuslerp of the rows of task vectors": Case(
        of_task("nuslerp", "weight: 0.7", "weight: 0.3", top="nuslerp_flatten: false"),
        always("nuslerp", 0.3, per="row"), AB, True,
    ),
    "task arithmetic": Case(
        of_task("task_arithmetic", "weight: 0.5", "weight: -0.2", top="lambda: 0.7, int8_mask: true"),
        always("ta", 0.7, weights=(0.5, -0.2)), AB, True,
    ),
    "task arithmetic, a mean": Case(
        of_task("task_arithmetic", "weight: 1", "weight: 3", top="normalize: true, lambda: [0.5, 1]"),
        lambda name: Wanted("ta", along([0.5, 1], name), {"weights": (0.25, 0.75)}), AB, True,
    ),
    "task arithmetic of one": Case(
        of_task("task_arithmetic", "weight: 0.6", top="lambda: 1.5"), always("mi", 0.9), ("BASE", "ONE")
    ),
    "ties by gradients": Case(
        of_task(
            "ties", "density: [1, 0.7, 0.1], weight: 1.0", "density: 0.5, weight: [0, 0.3, 0.7, 1]",
            "density: 0.33, weight: [{filter: mlp, value: 0.5}, {value: 0}]", top="normalize: true, int8_mask: true",
        ),
        sparse, ABC, True,
    ),
    "ties, summed": Case(
        of_task("ties", HALF, HALF, top="normalize: false, int8_mask: true"),
        always("ties", density=0.5, normalize=False), AB, True,
    ),
    "dare of all elements": Case(
        of_task("dare_linear", f"weight: 0.4, {ALL}", f"weight: 0.6, {ALL}"),
        always("dare", density=1.0, weights=(0.4, 0.6)), AB, True,
    ),
    "dare": Case(
        of_task("dare_linear", "weight: 0.4, density: 0.5", "weight: 0.6, density: 0.8"),
        always("dare", density=(0.5, 0.8), weights=(0.4, 0.6)), AB, True, exact=False,
    ),
    "dare as it is": Case(
        of_task("dare_linear", HALF, "weight: 1, density: 0.75", top="rescale: false"),
        always("dare", density=(0.5, 0.75), weights=(0.5, 0.75)), AB, True, exact=False,
    ),
    "dare ties": Case(
        of_task("dare_ties", "weight: 1, density: [0.3, 0.9]", HALF, HALF, top="lambda: 0.9"),
        lambda name: Wanted("dare_ties", 0.9, {"density": (along([0.3, 0.9], name), 0.5, 0.5)}),
        ABC, True, exact=False,
    ),
    "della": Case(
        of_task("della", "weight: 1, density: 0.5, epsilon: 0.1", "weight: 2, density: 0.7, epsilon: 0.2"),
        always("della", density=(0.5, 0.7), epsilon=(0.2, 0.4), weights=(1, 2)), AB, True, exact=False,
    ),
    "della of all elements": Case(
        of_task("della", f"weight: 1, {ALL}", f"weight: 2, {ALL}", top="lambda: 0.8"),
        always("della", 0.8, density=1.0, epsilon=0.0, weights=(1, 2)), AB, True,
    ),
    "della linear of all elements": Case(
        of_task("della_linear", f"weight: 1, {ALL}", f"weight: 2, {ALL}"),
        always("della_linear", density=1.0, epsilon=0.0, weights=(1, 2)), AB, True,
    ),
    "breadcrumbs": Case(
        of_task("breadcrumbs", "weight: 0.5, density: 0.7, gamma: 0.05", "weight: 1, density: 0.4"),
        always("breadcrumbs", density=(0.7, 0.4), gamma=(0.05, 0.01), weights=(0.5, 1)), AB, True,
    ),
    "sce": Case(of_task("sce", "", "", "", top="select_topk: 0.5"), always("sce", density=0.5), ABC, True),
    "model stock": Case(of_task("model_stock", "", "", ""), always("model_stock"), ABC, True),
    "karcher": Case(
        models("", "", "") + "merge_method: karcher\nparameters: {max_iter: 100, tol: 1e-7}\n",
        always("karcher"), ABC,
    ),
}  # fmt: skip


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory, write_checkpoint: Callable[..., Path]) -> dict[str, Path]:
    """A base and three fine-tunes of it, in float32."""
    generator = torch.Generator().manual_seed(0)
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (64, 32), "lm_head.weight": (64, 32)}
    shapes |= {"model.norm.weight": (32,)}
    for layer in range(LAYERS):
        block = f"model.layers.{layer}."
        shapes |= {block + f"self_attn.{x}_proj.weight": (16, 32) for x in "kv"}
        shapes |= {block + f"self_attn.{x}_proj.weight": (32, 32) for x in "qo"}
        shapes |= {block + f"self_attn.{x}_norm.weight": (8,) for x in "qk"}
        shapes |= {block + f"mlp.{x}_proj.weight": (48, 32) for x in ("gate", "up")}
        shapes |= {block + "mlp.down_proj.weight": (32, 48)}
        shapes |= {block + f"{x}_layernorm.weight": (32,) for x in ("input", "post_attention")}

    def noise(size: float) -> dict[str, Tensor]:
        return {name: size * torch.randn(shape, generator=generator) for name, shape in shapes.items()}

    base, shared, root = noise(1.0), noise(0.5), tmp_path_factory.mktemp("sides")
    found = {"BASE": write_checkpoint(root / "base", base, **CONFIG)}
    for name in ("ONE", "TWO", "THREE"):
        own = noise(0.3)
        side = {key: base[key] + shared[key] + own[key] for key in shapes}
        found[name] = write_checkpoint(root / name.lower(), side, **CONFIG)
    return found


@pytest.fixture
def recipe(folders: dict[str, Path], tmp_path: Path) -> Callable[..., Path]:
    """Writes a recipe with the names of the folders in it."""

    def write(text: str, name: str = "recipe.yml") -> Path:
        path = tmp_path / name
        path.write_text(with_folders(text, folders))
        return path

    return write


def with_folders(text: str, folders: dict[str, Path]) -> str:
    for name, folder in folders.items():
        text = text.replace(name, str(folder))
    return text


def merged(path: Path, out: Path) -> tuple[dict[str, Tensor], MergeSettings]:
    """What mull makes of a recipe, and by which settings."""
    found = read_recipe(path)
    group = found.sources.open()
    group.check()
    settings = found.settings(group)
    plan = plan_merge(group, settings.coefficients, method=settings.method, varying=settings.varying)
    return load_file(merge(plan, out) / "model.safetensors"), settings
