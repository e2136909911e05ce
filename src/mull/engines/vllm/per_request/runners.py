# pyright: reportMissingImports=false
"""Before each forward pass, the λ of the requests in the batch are written into the buffer that the layers read.

vLLM has two model runners. V2 asks a model for the class that prepares its inputs, so mull gives it one. V1 has no
such place: the method that calls the model is wrapped, for models of mull alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import nn

from mull.engines.vllm import versions
from mull.engines.vllm.per_request.requests import lambda_of
from mull.engines.vllm.per_request.rows import RowLambdas


class Lambdas:
    """Stands at a model: reads the λ of requests, and gives the rows theirs."""

    def __init__(self, rows: RowLambdas, default: float) -> None:
        self.rows = rows
        self.default = default

    def of(self, sampling_params: Any) -> float:
        return lambda_of(getattr(sampling_params, "extra_args", None), self.default)


def attach(model: nn.Module, vllm_config: Any, rows: RowLambdas, default: float) -> None:
    """Has the runner that runs `model` write the λ into `rows`; requests that name none have the λ `default`."""
    model.mull_lambdas = Lambdas(rows, default)  # type: ignore[assignment]
    if vllm_config.use_v2_model_runner:
        state = _state(versions.model_state_class(vllm_config, model))
        model.get_model_state_cls = lambda: state  # type: ignore[assignment]
    else:
        _wrap_v1()


def _state(base: type) -> type:
    class LambdaState(base):
        """V2: keeps the λ of each slot of requests."""

        def __init__(self, vllm_config: Any, model: nn.Module, *args: Any) -> None:
            super().__init__(vllm_config, model, *args)
            self._lambdas: Any = model.mull_lambdas
            self._of_slot = np.full(self.max_num_reqs, self._lambdas.default, np.float32)

        def add_request(self, req_index: int, new_req_data: Any) -> None:
            super().add_request(req_index, new_req_data)
            self._of_slot[req_index] = self._lambdas.of(new_req_data.sampling_params)

        def prepare_inputs(self, input_batch: Any, req_states: Any) -> dict[str, Any]:
            count = input_batch.num_reqs
            tokens = np.diff(input_batch.query_start_loc_np[: count + 1])
            self._lambdas.rows.set(self._of_slot[input_batch.idx_mapping_np[:count]], tokens)
            return super().prepare_inputs(input_batch, req_states)

    return LambdaState


def _wrap_v1() -> None:
    runner = versions.v1_model_runner()
    forward = runner._model_forward
    if hasattr(forward, "mull"):
        return

    def _model_forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        lambdas = getattr(self.get_model(), "mull_lambdas", None)
        names = self.input_batch.req_ids
        if lambdas is not None and names:
            of_requests = np.array([lambdas.of(self.requests[name].sampling_params) for name in names], np.float32)
            lambdas.rows.set(of_requests, np.diff(self.query_start_loc.np[: len(names) + 1]))
        return forward(self, *args, **kwargs)

    _model_forward.mull = True  # type: ignore[attr-defined]
    runner._model_forward = _model_forward
