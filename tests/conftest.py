"""Fixtures that several folders share: small checkpoints, written the way released ones are."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import settings
from safetensors.torch import save_file
from torch import Tensor

from mull.checkpoints import blocks
from mull.checkpoints.headers import TensorInfo

settings.register_profile("patient", deadline=None)  # a busy machine is no reason to fail
settings.load_profile("patient")
if "PYTEST_XDIST_WORKER" in os.environ:  # several processes share the cores already
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"  # of the processes that tests start

WIDTH, ROWS = 16, 24
CONFIG: dict[str, Any] = {
    "architectures": ["Qwen3ForCausalLM"],
    "model_type": "qwen3",
    "hidden_size": WIDTH,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_hidden_layers": 2,
    "intermediate_size": 32,
    "vocab_size": ROWS,
    "rope_theta": 5000000,
    "max_position_embeddings": 4096,
    "eos_token_id": 3,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
}
THINKING_TEMPLATE = "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n<think>\\n' }}{%- endif %}"
INSTRUCT_TEMPLATE = "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"

WriteCheckpoint = Callable[..., Path]


def random_tensors(seed: int, dtype: torch.dtype = torch.bfloat16, rows: int = ROWS) -> dict[str, Tensor]:
    """Parameters named as Qwen3's: embedding, two blocks with attention, q_norm, FFN and norms, a final norm."""
    generator = torch.Generator().manual_seed(seed)
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (rows, WIDTH), "model.norm.weight": (WIDTH,)}
    for layer in range(2):
        block = f"model.layers.{layer}"
        shapes |= {
            f"{block}.self_attn.q_proj.weight": (WIDTH, WIDTH),
            f"{block}.self_attn.q_norm.weight": (4,),
            f"{block}.mlp.up_proj.weight": (32, WIDTH),
            f"{block}.input_layernorm.weight": (WIDTH,),
        }
    return {name: torch.randn(shape, generator=generator).to(dtype) for name, shape in shapes.items()}


def write_checkpoint_folder(
    folder: Path,
    tensors: dict[str, Tensor],
    *,
    shards: int = 1,
    tokens: list[str] | None = None,
    template: str | None = INSTRUCT_TEMPLATE,
    generation: dict[str, Any] | None = None,
    drop: tuple[str, ...] = (),
    **config: Any,
) -> Path:
    """A model folder with `tensors` dealt over `shards` files; `config` entries replace or add to CONFIG."""
    folder.mkdir(parents=True)
    values = {key: value for key, value in {**CONFIG, **config}.items() if key not in drop}
    (folder / "config.json").write_text(json.dumps(values))
    (folder / "generation_config.json").write_text(json.dumps(generation or {"temperature": 0.6}))
    tokens = [f"token{i}" for i in range(20)] if tokens is None else tokens
    vocabulary = {token: i for i, token in enumerate(tokens)}
    (folder / "tokenizer.json").write_text(json.dumps({"model": {"type": "WordLevel", "vocab": vocabulary}}))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"}))
    if template is not None:
        (folder / "chat_template.jinja").write_text(template)
    if shards == 1:
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})
        return folder
    names = list(tensors)
    weight_map = {}
    for i in range(shards):
        file = f"model-{i + 1:05d}-of-{shards:05d}.safetensors"
        mine = names[i::shards]
        save_file({name: tensors[name] for name in mine}, folder / file, {"format": "pt"})
        weight_map |= dict.fromkeys(mine, file)
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    """What one test sets is not the next one's."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def write_checkpoint() -> WriteCheckpoint:
    return write_checkpoint_folder


@pytest.fixture(scope="session")
def tensors_of() -> Callable[..., dict[str, Tensor]]:
    return random_tensors


@pytest.fixture
def two_sides(tmp_path: Path) -> Callable[..., tuple[Path, Path]]:
    """Writes an Instruct and a Thinking folder; `instruct` and `thinking` are options of one side only."""

    def write(instruct: dict[str, Any] | None = None, thinking: dict[str, Any] | None = None) -> tuple[Path, Path]:
        sides = []
        for seed, (name, own) in enumerate((("instruct", instruct or {}), ("thinking", thinking or {}))):
            options = {"template": THINKING_TEMPLATE if name == "thinking" else INSTRUCT_TEMPLATE, **own}
            tensors = options.pop("tensors", None) or random_tensors(seed)
            sides.append(write_checkpoint_folder(tmp_path / name, tensors, **options))
        return sides[0], sides[1]

    return write


@pytest.fixture
def mapped() -> None:
    """Skips a test where files are not mapped."""
    if blocks.compiled is None:
        pytest.skip("files are mapped on Linux, where there was a compiler at installation")


@pytest.fixture(params=["mapped", "read"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How the bytes of files are reached."""
    if request.param == "mapped":
        request.getfixturevalue("mapped")
    else:
        monkeypatch.setattr(blocks, "compiled", None)
    return request.param


@pytest.fixture
def cut_when_seen(mapped: None, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Cuts a file as soon as elements of it have been handed out, before anybody has looked at them."""

    def cut(path: Path) -> None:
        elements = blocks.Files.elements

        def cutting(self: blocks.Files, info: TensorInfo, *others: Any) -> Tensor:
            found = elements(self, info, *others)
            if info.file == path:
                os.truncate(path, 0)
            return found

        monkeypatch.setattr(blocks.Files, "elements", cutting)

    return cut


@pytest.fixture
def serve() -> Iterator[Callable[..., str]]:
    """Starts servers of engines/remote/openai_server.py with the given options; gives their base URLs."""
    processes: list[subprocess.Popen[str]] = []

    def start(**options: Any) -> str:
        program = Path(__file__).parent / "engines" / "remote" / "openai_server.py"
        command = [sys.executable, str(program), json.dumps(options)]
        processes.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        assert processes[-1].stdout
        return f"http://127.0.0.1:{int(processes[-1].stdout.readline())}/v1"

    yield start
    for process in processes:
        process.kill()
        process.wait()
