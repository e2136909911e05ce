"""Whether experts by vLLM's Triton kernel give what experts one after the other do; run by `test_experts.py`.

In a process of its own, where Triton interprets its kernels. The order of the chosen experts, which vLLM computes by a
kernel in C++ that CPUs lack, is computed here.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tests.engines.vllm.per_request import triton_on_cpu

TOKENS, CHOSEN, EXPERTS, WIDTH, INNER = 21, 2, 4, 32, 48


def ordered(ids: Tensor, block: int, experts: int, *_: Any, **__: Any) -> tuple[Tensor, Tensor, Tensor]:
    """`moe_align_block_size`: the choices of each expert in blocks of their own, the rest of a block beyond the end."""
    places, owners = [], []
    for expert in range(experts):
        (mine,) = (ids.flatten() == expert).nonzero(as_tuple=True)
        blocks = -(-len(mine) // block)
        places += mine.tolist() + [ids.numel()] * (blocks * block - len(mine))
        owners += [expert] * blocks
    place, owner, count = (torch.tensor(each, dtype=torch.int32) for each in (places, owners, [len(places)]))
    return place, owner, count


def main() -> None:
    triton_on_cpu.install()
    from vllm.config import VllmConfig, set_current_vllm_config
    from vllm.model_executor.layers.fused_moe import fused_moe

    from mull.engines.vllm.per_request import experts

    fused_moe.moe_align_block_size = ordered
    torch.manual_seed(0)
    x, lams = torch.randn(TOKENS, WIDTH), torch.rand(TOKENS, 1)
    weights, ids = torch.rand(TOKENS, EXPERTS).topk(CHOSEN)
    matrices = torch.randn(EXPERTS, 2 * INNER, 2 * WIDTH), torch.randn(EXPERTS, WIDTH, 2 * INNER)
    with set_current_vllm_config(VllmConfig()):
        kernel = experts._by_kernel(x, lams, weights, ids.int(), *matrices, "silu")
    one_by_one = experts._by_expert(x, lams, weights, ids, *matrices, "silu")
    torch.testing.assert_close(kernel, one_by_one, rtol=1e-4, atol=1e-3)


if __name__ == "__main__":
    main()
