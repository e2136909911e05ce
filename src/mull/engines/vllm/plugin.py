# pyright: reportMissingImports=false
"""What vLLM is told of mull, in each of its processes, before a model is made.

An entry point of the group `vllm.general_plugins`. It runs where mull is not used, too: so vLLM's version is checked,
and what is large is imported, when one of the names is asked for.
"""

from __future__ import annotations

NAME = "mull"
"""How command lines call mull's parts: `--load-format mull --quantization mull`."""


def register() -> None:
    from vllm.distributed.weight_transfer.factory import WeightTransferEngineFactory

    from mull.engines.vllm import told
    from mull.engines.vllm.in_place import loader, unpacked  # noqa: F401  (each registers itself)

    told.end_with_parent()
    if NAME not in WeightTransferEngineFactory._registry:  # vLLM calls plugins once per process, tests more often
        WeightTransferEngineFactory.register_engine(NAME, "mull.engines.vllm.in_place.transfer", "InPlace")

    from vllm.model_executor.layers.quantization import register_quantization_config

    from mull.engines.vllm.per_request.quantization import PairConfig

    register_quantization_config(NAME)(PairConfig)
    from vllm.reasoning.abs_reasoning_parsers import ReasoningParserManager

    ReasoningParserManager.register_lazy_module(NAME, "mull.engines.vllm.reasoning", "MullReasoning")
