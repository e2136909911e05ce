"""`Checkpoint`: a model folder, opened lazily. Never unpickles, never imports a model library."""

from __future__ import annotations

import logging
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mull.checkpoints.config import checked, is_tied
from mull.checkpoints.folder_files import OTHER_LAYOUTS, WEIGHTS, check_files, companions
from mull.checkpoints.headers import FLOATING, TensorInfo, read_header, same_bytes
from mull.checkpoints.hub import hub_client
from mull.checkpoints.names import layer_of
from mull.checkpoints.tokenizer_files import TokenizerFiles, read_json
from mull.errors import MullError, Refused
from mull.words import counted

if TYPE_CHECKING:
    from torch import Tensor

log = logging.getLogger(__name__)

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
HEAD = "lm_head.weight"
EMBEDDINGS = ("embed_tokens.weight", "wte.weight", "embed_in.weight", "word_embeddings.weight")
_HUB_PATTERNS = [
    "*.json", "*.safetensors", "*.jinja", "*.txt", "*.model", "*.tiktoken", "*.py", "LICENSE*", "NOTICE*",
    "README.md",  # says which license the model has
]  # fmt: skip
# The same weights in another layout.
_HUB_DUPLICATES = ["consolidated*", "*/*.safetensors", *(f"{folder}/*" for folder in OTHER_LAYOUTS)]


class Checkpoint:
    """A model folder: tensors from the safetensors headers, config, tokenizer and companion files.

    Example:
        >>> checkpoint = Checkpoint.open("Qwen/Qwen3-4B-Thinking-2507")  # a folder or a hub id
        >>> checkpoint.tensors["model.norm.weight"].shape
        (2560,)
    """

    def __init__(self, folder: Path, name: str | None = None) -> None:
        """Open a local folder; no weights are read.

        Raises:
            MullError: there is no such folder, it holds no safetensors checkpoint, or only links or Git LFS pointers to
                missing files.
        """
        self.folder = folder
        self.name = name or str(folder)
        if not folder.exists():
            raise MullError(
                f"there is no folder {folder}", "give a model folder, or a hub id such as Qwen/Qwen3-4B-Thinking-2507"
            )
        if not folder.is_dir():
            raise MullError(f"{folder} is a file", "give the folder that holds config.json and the safetensors files")
        check_files(folder)
        if (folder / "adapter_config.json").is_file() and not (folder / "config.json").is_file():
            raise MullError(
                f"{folder} is an adapter (adapter_config.json), not a model", "merge the adapter into its model first"
            )
        if not (folder / "config.json").is_file():
            raise MullError(
                f"{folder} is no checkpoint: it has no config.json", "give the folder that transformers saved"
            )
        self.files = self._weight_files()
        log.debug("opened %s: weights in %s", self.name, counted(len(self.files), "file"))

    @classmethod
    def open(cls, source: str | Path) -> Checkpoint:
        """Open a folder or, if there is no such path, download a hub id through huggingface_hub.

        A hub id is `owner/name`, or `owner/name@revision` for a branch, tag or commit.

        Raises:
            MullError: there is no such folder, and the hub does not give it.
        """
        text = str(source)
        if not text.strip():
            raise MullError("an empty name is no model", "give a folder or a hub id")
        path = Path(source).expanduser()
        if path.exists() or text.count("/") != 1 or text.startswith((".", "/", "~")):
            return cls(path)
        name, _, revision = text.partition("@")
        return cls(_download(name, revision or None), name=text)

    @property
    def published_name(self) -> str:
        """The hub id, or the folder's name without its path: paths on this machine are not published."""
        return self.name if self.is_on_hub else self.folder.resolve().name

    @property
    def is_on_hub(self) -> bool:
        return self.name != str(self.folder)

    @cached_property
    def config(self) -> dict[str, Any]:
        path = self.folder / "config.json"
        return checked(read_json(path), path)

    @cached_property
    def generation_config(self) -> dict[str, Any]:
        path = self.folder / "generation_config.json"
        return checked(read_json(path), path) if path.is_file() else {}

    @cached_property
    def tokenizer(self) -> TokenizerFiles:
        return TokenizerFiles(self.folder)

    @cached_property
    def tensors(self) -> dict[str, TensorInfo]:
        """Every tensor by name, in shard and file order.

        Raises:
            MullError: a shard is missing, corrupt or cut short, or the index and the shards disagree.
        """
        tensors: dict[str, TensorInfo] = {}
        for file in self.files:
            for name, info in read_header(file)[0].items():
                if name in tensors:
                    raise MullError(
                        f"{name} is in both {tensors[name].file.name} and {file.name} of {self.folder}",
                        "remove the stale shard",
                    )
                tensors[name] = info
        if self._index:
            for name, file in self._index.items():
                if name not in tensors:
                    raise MullError(
                        f"{self.folder / INDEX} lists {name}, which {file} does not hold",
                        "download the checkpoint again",
                    )
        if not tensors:
            raise MullError(f"{self.folder} holds no tensors", "download or save the checkpoint again")
        return tensors

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        return sum(info.nbytes for info in self.tensors.values())

    @property
    def parameters(self) -> int:
        """Elements of all floating-point tensors."""
        return sum(info.numel for info in self.tensors.values() if info.dtype in FLOATING)

    @property
    def layers(self) -> int:
        """Number of transformer blocks, counted from the names."""
        return max((layer for layer in map(layer_of, self.tensors) if layer is not None), default=-1) + 1

    @property
    def tied(self) -> bool:
        """Whether the output head shares the embedding's weights: as the config says, else if there is no lm_head.

        Not if a head with other values is stored. transformers 5 uses such a head, whatever the config says.
        """
        stated = is_tied(self.config)
        return HEAD not in self.tensors if stated is None else stated and not self.has_other_head

    @cached_property
    def has_other_head(self) -> bool:
        """Whether the config ties the head, but a head that differs from the embedding is stored. Reads both."""
        head = self.tensors.get(HEAD)
        if head is None or not is_tied(self.config):
            return False
        return self.embedding is None or not same_bytes(head, self.embedding)

    @property
    def embedding(self) -> TensorInfo | None:
        """The input embedding `[vocabulary rows, width]`."""
        return next((t for n, t in self.tensors.items() if n.endswith(EMBEDDINGS) and len(t.shape) == 2), None)

    def resolve(self, name: str) -> TensorInfo:
        """The tensor called `name`; the output head of a tied checkpoint is its embedding."""
        if name == HEAD and self.tied and self.embedding:
            return self.embedding
        return self.tensors[name]

    def tensor(self, name: str) -> Tensor:
        """A zero-copy view of the mapped file (read-only: writing to it is undefined)."""
        from safetensors import safe_open

        with safe_open(self.tensors[name].file, "pt") as file:
            return file.get_tensor(name)

    def companions(self) -> list[Path]:
        """Files that a copy of the model needs besides weights: see `mull.checkpoints.folder_files`."""
        return companions(self.folder)

    @cached_property
    def _index(self) -> dict[str, str]:
        path = self.folder / INDEX
        if not path.is_file() or (self.folder / SINGLE).is_file():
            return {}
        weight_map = read_json(path).get("weight_map")
        if not isinstance(weight_map, dict) or not all(
            isinstance(f, str) and Path(f).name == f and f.endswith(".safetensors") for f in weight_map.values()
        ):
            raise MullError(f"{path} has no usable weight_map", "download or save this file again")
        return weight_map

    def _shards_beside_single(self) -> list[str]:
        """Names of other weight files that loaders may take instead of `model.safetensors`."""
        path = self.folder / INDEX
        weight_map = read_json(path).get("weight_map") if path.is_file() else None
        listed = map(str, weight_map.values()) if isinstance(weight_map, dict) else ()
        present = (file.name for file in self.folder.glob("model-*-of-*.safetensors"))
        return sorted({*listed, *present} - {SINGLE})

    def _weight_files(self) -> list[Path]:
        folder = self.folder
        if (folder / SINGLE).is_file():
            others = self._shards_beside_single()
            if others:
                raise Refused(
                    f"{folder} has both {SINGLE} and other shards ({others[0]}): loaders differ in which they take",
                    f"remove what is not meant: {SINGLE}, or the shards together with {INDEX}",
                )
            return [folder / SINGLE]
        if self._index:
            files = [folder / name for name in sorted(set(self._index.values()))]
            missing = [file.name for file in files if not file.is_file()]
            if missing:
                shown = ", ".join(missing[:3]) + (" …" if len(missing) > 3 else "")
                raise MullError(
                    f"{folder} lacks {len(missing)} of {len(files)} shards: {shown}", "download the missing files"
                )
            return files
        others = sorted(path.name for path in folder.iterdir() if path.name.endswith(WEIGHTS))
        if any(name.endswith((".bin", ".pt", ".pth")) for name in others):
            raise Refused(
                f"{folder} has pickled weights ({others[0]}), which can run code when loaded; mull reads safetensors",
                "convert it where you trust its origin: load the model with transformers and save_pretrained it",
            )
        if (folder / "model.safetensors.index.json").is_file():
            raise MullError(f"{folder / INDEX} lists no shards", "download or save the checkpoint again")
        if others:
            raise MullError(
                f"{folder} has no {SINGLE} and no {INDEX}, only {others[0]}",
                f"name the weights {SINGLE}, or add the index",
            )
        raise MullError(f"{folder} holds no weights", "give the folder that holds the safetensors files")


def _download(name: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download

    remedy = "give a local folder, or check the name, your network and `hf auth login`"
    what = f"{name} is no local folder, and the hub did not give it"
    with hub_client(lambda reason: MullError(f"{what} ({reason})", remedy)):
        return Path(
            snapshot_download(name, revision=revision, allow_patterns=_HUB_PATTERNS, ignore_patterns=_HUB_DUPLICATES)
        )
