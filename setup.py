"""The one thing pyproject.toml cannot say stably: compiled parts that may be missing.

The variable MULL_KERNELS: `yes` fails where they cannot be compiled, `no` leaves them out, so that the wheel is for
every system. Without it they are compiled if possible.
"""

import os
import sys
from pathlib import Path

from setuptools import Extension, setup

wanted = os.environ.get("MULL_KERNELS", "")
if wanted not in ("", "yes", "no"):
    sys.exit(f"MULL_KERNELS is {wanted!r}; it can be yes, no or empty")

kernels = Path("src/mull/merging/kernels")
merging = Extension(
    "mull.merging._kernels",
    sorted(map(str, kernels.glob("*.c"))),
    depends=sorted(map(str, kernels.glob("*.h"))),
    # No multiply-add but where fma() stands; floating-point flags are never read, so that loops may become vectors.
    extra_compile_args=["-O3", "-fvisibility=hidden", "-ffp-contract=off", "-fno-trapping-math", "-fno-math-errno"],
    py_limited_api=True,
    optional=not wanted,  # without a compiler torch does the same, in more passes
)
files = Extension(
    "mull.checkpoints._files",
    ["src/mull/checkpoints/files.c"],
    extra_compile_args=["-O2", "-fvisibility=hidden"],
    py_limited_api=True,
    optional=not wanted,  # without it files are read, not mapped
)
if wanted == "no":
    setup()
else:
    compiled = [merging, files] if sys.platform == "linux" else [merging]
    setup(ext_modules=compiled, options={"bdist_wheel": {"py_limited_api": "cp311"}})
