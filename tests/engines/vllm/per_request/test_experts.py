"""Experts on a GPU are vLLM's Triton kernel; here its interpreter stands in."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.engines.vllm.per_request import triton_on_cpu

pytestmark = pytest.mark.vllm


def test_the_kernel_gives_what_experts_one_after_the_other_do():
    ran = subprocess.run(
        [sys.executable, "-m", "tests.engines.vllm.per_request.kernel_apart"],
        capture_output=True,
        text=True,
        env=os.environ | triton_on_cpu.ENVIRONMENT,
        cwd=Path(__file__).parents[4],
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
