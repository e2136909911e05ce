"""The one thing pyproject.toml cannot say stably: a compiled part that may be missing."""

from setuptools import Extension, setup

kernels = Extension(
    "mull.merging._kernels",
    ["src/mull/merging/kernels.c"],
    extra_compile_args=["-O3"],
    py_limited_api=True,
    optional=True,  # without a compiler torch does the same, in more passes
)
setup(ext_modules=[kernels], options={"bdist_wheel": {"py_limited_api": "cp311"}})
