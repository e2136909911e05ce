"""Whether a row of a matrix product has the same bits beside any number of other rows, tried on a model's own layers.

Libraries choose kernels by the number of rows (oneDNN, MKL) and by the processor (AMX), and kernels sum in different
orders. What holds for one processor, dtype and number of threads says nothing about another, so it is tried at the
start of every engine. Looks at linear layers only: attention and norms are not tried.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F

STEPS = (8, 16, 32, 64)
"""Numbers of which the rows of a product may have to be a multiple. 8 is the least: with fewer rows, MKL takes other
kernels (below 4 on one thread, below 12 on two)."""
ROW_COUNTS = (8, 16, 24, 32, 40, 64, 128)
"""Numbers of rows that are tried. The last is a multiple of all `STEPS`."""
MOST_OUTPUTS = 8192
"""Outputs of a layer that are tried at most, because a vocabulary would take longer than all else together."""

Product = Callable[[torch.Tensor, torch.Tensor, torch.Tensor | None], torch.Tensor]


@torch.inference_mode()
def row_step(model: torch.nn.Module, product: Product = F.linear) -> int | None:
    """The least of `STEPS` such that a row has the same bits in products of any multiple of so many rows, at any place
    among them; None if there is none.

    Tries each shape of `model`'s linear layers once, with all rows alike, on the present number of threads.
    """
    layers = {
        (module.in_features, module.out_features, module.bias is None): module
        for module in model.modules()
        if isinstance(module, torch.nn.Linear)
    }
    good = set(ROW_COUNTS)
    for module in layers.values():
        weight = module.weight[:MOST_OUTPUTS]
        bias = None if module.bias is None else module.bias[:MOST_OUTPUTS]
        generator = torch.Generator().manual_seed(0)
        row = torch.randn(1, module.in_features, generator=generator).to(weight)
        expected = product(row.repeat(ROW_COUNTS[-1], 1), weight, bias)[0]
        good &= {rows for rows in ROW_COUNTS if bool((product(row.repeat(rows, 1), weight, bias) == expected).all())}
    return next((step for step in STEPS if good >= {rows for rows in ROW_COUNTS if rows % step == 0}), None)


def kernels(device: torch.device, dtype: torch.dtype, step: int | None) -> str:
    """What decides the last bits of responses beside plan and weights, in words, for a run's record."""
    name = str(dtype).removeprefix("torch.")
    if device.type == "cpu":
        threads = torch.get_num_threads()
        where = f"{torch.backends.cpu.get_cpu_capability()}, {threads} thread{'s' if threads > 1 else ''}"
    else:
        where = torch.cuda.get_device_name(device)
    rows = f"rows in steps of {step}" if step else "a response's last bits may depend on its batch"
    return f"torch {torch.__version__}, {name}, {where}; {rows}"
