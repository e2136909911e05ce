"""Types of kernels.c."""

from typing_extensions import Buffer

def interpolate(near: Buffer, far: Buffer, out: Buffer, high: float, low: float, /) -> None: ...
