"""Lets vLLM run its Triton kernels without a GPU, by Triton's interpreter: slow, but model runner V2 as it is.

Triton knows no CPU, so it is given a driver that claims to be one. A process needs the variables of `ENVIRONMENT` from
its start, since Triton reads them when it is imported, and must call `install` before it imports vLLM.
"""

from __future__ import annotations

from typing import Any

ENVIRONMENT = {"TRITON_INTERPRET": "1", "VLLM_USE_V2_MODEL_RUNNER": "1"}


class _Driver:
    @staticmethod
    def is_active() -> bool:
        return True

    def __call__(self) -> _Driver:
        return self

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int | None = None) -> int:
        return 0

    def get_current_target(self) -> Any:
        from triton.backends.compiler import GPUTarget

        return GPUTarget("cpu", 0, 1)

    def get_device_interface(self) -> Any:
        import torch

        return torch.cpu


def install() -> None:
    from triton.backends import Backend, backends
    from triton.runtime.driver import driver

    backends.clear()
    backends["cpu"] = Backend(compiler=None, driver=_Driver)
    driver.set_active(_Driver())
