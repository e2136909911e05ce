"""GPUs as their data sheets describe them, and how many of them stand where."""

from __future__ import annotations

from dataclasses import dataclass

from mull.errors import MullError, nearest


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """One GPU. Bytes, bytes a second in one direction, and operations a second without sparsity."""

    name: str
    memory: float
    bandwidth: float
    bf16: float
    fp8: float
    """Equal to `bf16` where there is no fp8 arithmetic: then weights are stored in 8 bits and computed in 16."""
    bus: float
    """To CPU memory: PCIe."""
    link: float
    """To other GPUs of the node: NVLink, or PCIe where there is none."""


def _gpu(name: str, gigabytes: float, gb_s: float, tflops: float, tflops_fp8: float, pcie: float, link: float) -> Gpu:
    return Gpu(
        name=name,
        memory=gigabytes * 1e9,
        bandwidth=gb_s * 1e9,
        bf16=tflops * 1e12,
        fp8=tflops_fp8 * 1e12,
        bus=pcie * 1e9,
        link=link * 1e9,
    )


GPUS = {
    gpu.name: gpu
    for gpu in (
        # NVIDIA's data sheets: SXM variants, dense arithmetic with 32-bit sums, one direction of the links.
        #  name, GB, GB/s, TFLOPS in bf16 and fp8, GB/s of PCIe and NVLink
        _gpu("RTX4090", 24, 1008, 165.2, 330.3, 32, 32),
        _gpu("L4", 24, 300, 121, 242, 32, 32),
        _gpu("A100", 80, 2039, 312, 312, 32, 300),
        _gpu("H100", 80, 3350, 989.5, 1979, 64, 450),
        _gpu("H200", 141, 4800, 989.5, 1979, 64, 450),
        _gpu("B200", 180, 8000, 2250, 4500, 64, 900),
    )
}


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """Nodes with equal numbers of one GPU."""

    gpu: Gpu
    per_node: int = 1
    nodes: int = 1

    @property
    def gpus(self) -> int:
        """Of all nodes."""
        return self.per_node * self.nodes

    def __str__(self) -> str:
        of_node = f"{self.per_node} × {self.gpu.name}"
        return of_node if self.nodes == 1 else f"{self.nodes} nodes of {of_node}"


def gpu_named(name: str) -> Gpu:
    """The GPU of that name in any case. Raises `MullError` with the nearest name for others."""
    found = {known.lower(): gpu for known, gpu in GPUS.items()}.get(name.lower())
    if found is None:
        raise MullError(f"unknown GPU {name!r}", nearest(name.upper(), GPUS))
    return found
