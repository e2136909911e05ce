"""`mull inspect` and `mull merge --dry-run` answer at once: what they import decides it."""

import subprocess
import sys


def imported(modules: str, heavy: str) -> str:
    code = f"import sys, {modules}; print(*sorted(sys.modules.keys() & set({heavy.split()!r})))"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_aligning_and_planning_need_neither_torch_nor_numpy() -> None:
    heavy = "torch numpy transformers safetensors huggingface_hub tokenizers"
    assert imported("mull.checkpoints.pair, mull.merging.streaming.plan", heavy) == ""


def test_no_part_of_checkpoints_and_merging_imports_a_model_library() -> None:
    modules = "mull.geometry.relative_difference, mull.checkpoints.fingerprint, mull.merging.streaming.stream"
    assert imported(modules, "transformers tokenizers huggingface_hub") == ""
