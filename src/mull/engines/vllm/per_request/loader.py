# pyright: reportMissingImports=false
"""`--load-format mull`: a model with both ends in every layer, and a runner that gives the rows of a batch their λ."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from vllm.config import ModelConfig, VllmConfig, replace
from vllm.config.load import LoadConfig
from vllm.model_executor.model_loader.default_loader import DefaultModelLoader

from mull.checkpoints.checkpoint import HEAD, Checkpoint
from mull.checkpoints.pair import Pair
from mull.engines.vllm import versions
from mull.engines.vllm.per_request import runners
from mull.engines.vllm.per_request.ends import Ends
from mull.engines.vllm.per_request.layers import double_output
from mull.engines.vllm.per_request.options import Options
from mull.engines.vllm.per_request.rows import RowLambdas
from mull.engines.vllm.refusals import PER_REQUEST, refuse
from mull.engines.vllm.told import telling
from mull.errors import MullError


class PairLoader(DefaultModelLoader):
    """Reads both ends by vLLM's own weight loading, one after the other."""

    def __init__(self, load_config: LoadConfig) -> None:
        self.options = Options.of(load_config.model_loader_extra_config)
        self._end: Checkpoint | None = None
        """The end that is being read."""
        super().__init__(replace(load_config, load_format="safetensors", model_loader_extra_config=self.options.others))

    def download_model(self, model_config: ModelConfig) -> None:
        self._open()

    @telling()
    def load_model(self, vllm_config: VllmConfig, model_config: ModelConfig, prefix: str = "") -> nn.Module:
        """Raises `MullError` for versions, options, pairs and layers for which there is no λ per request."""
        versions.check()
        refuse(vllm_config, "a λ per request", PER_REQUEST)
        self._pair = self._open()
        self._pair.check()
        donor = self._pair.donor.folder
        if model_config.model != self._pair.donor.name and Path(model_config.model).resolve() != donor.resolve():
            raise MullError(
                f"vLLM was started with {model_config.model}, but the donor ({self.options.donor}) is {donor}",
                "start it with the donor, or name the other end as the donor in --model-loader-extra-config",
            )
        device = torch.device(self.load_config.device or vllm_config.device_config.device)
        self._rows = RowLambdas(_most_tokens(vllm_config), self.options.default_lambda, device)
        model = super().load_model(vllm_config, model_config, prefix)
        runners.attach(model, vllm_config, self._rows, self.options.default_lambda)
        return model

    def _open(self) -> Pair:
        return Pair.open(self.options.instruct, self.options.thinking, donor=self.options.donor)

    def create_model(self, vllm_config: VllmConfig, model_config: ModelConfig, prefix: str = "") -> nn.Module:
        model = super().create_model(vllm_config, model_config, prefix)
        if versions.runs_transformers_code(model):
            self._rows.token_dim = 1  # activations have a batch dimension of one before it
        self._ends = Ends(model, self._rows)
        model.register_forward_hook(lambda module, inputs, output: double_output(self._rows, output))
        return model

    def load_weights(self, model: nn.Module, model_config: ModelConfig) -> None:
        for half, end in enumerate((self._pair.instruct, self._pair.thinking)):
            self._end = end
            self._ends.point_to(half)  # type: ignore[arg-type]
            super().load_weights(model, model_config)
            self._ends.check(end.name)
        self._ends.join()
        self._end = None
        del self._ends

    def get_all_weights(self, model_config: ModelConfig, model: nn.Module) -> Iterator[tuple[str, Tensor]]:
        if self._end is None:
            raise MullError("vLLM was told to load weights again, which a λ per request cannot", "start it anew")
        source = DefaultModelLoader.Source(
            str(self._end.folder),
            None,
            allow_patterns_overrides=getattr(model, "allow_patterns_overrides", None),
        )
        donor, end = self._pair.donor, self._end
        for name, tensor in self._get_weights_iterator(source):
            yield name, _with_rows_of(donor, name, tensor)
        if HEAD in donor.tensors and HEAD not in end.tensors:  # vLLM unties a head of which the donor stores a copy
            yield HEAD, _with_rows_of(donor, HEAD, end.tensor(end.resolve(HEAD).name))


def _with_rows_of(donor: Checkpoint, name: str, tensor: Tensor) -> Tensor:
    """A tensor with as many rows as the donor's, whose own it takes where it has fewer (padding of the vocabulary)."""
    rows = donor.tensors[name].shape[0] if name in donor.tensors and tensor.dim() else None
    if rows is None or rows == len(tensor):
        return tensor
    return torch.cat([tensor[:rows], donor.tensor(name)[len(tensor) :].to(tensor)])


def _most_tokens(config: Any) -> int:
    """Most tokens of a batch, with the padding of CUDA graphs."""
    graphs = config.compilation_config.max_cudagraph_capture_size or 0
    return max(config.scheduler_config.max_num_batched_tokens, graphs)
