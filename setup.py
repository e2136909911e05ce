"""The one thing pyproject.toml cannot say stably: compiled parts that may be missing."""

from pathlib import Path

from setuptools import Extension, setup

kernels = Path("src/mull/merging/kernels")
merging = Extension(
    "mull.merging._kernels",
    sorted(map(str, kernels.glob("*.c"))),
    depends=sorted(map(str, kernels.glob("*.h"))),
    # No multiply-add but where fma() stands; floating-point flags are never read, so that loops may become vectors.
    extra_compile_args=["-O3", "-fvisibility=hidden", "-ffp-contract=off", "-fno-trapping-math", "-fno-math-errno"],
    py_limited_api=True,
    optional=True,  # without a compiler torch does the same, in more passes
)
files = Extension(
    "mull.checkpoints._files",
    ["src/mull/checkpoints/files.c"],
    extra_compile_args=["-O2", "-fvisibility=hidden"],
    py_limited_api=True,
    optional=True,  # without it files are read, not mapped
)
setup(ext_modules=[merging, files], options={"bdist_wheel": {"py_limited_api": "cp311"}})
