from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mull.checkpoints.pair import Pair
from mull.merging.coefficients import Coefficients
from mull.merging.streaming.plan import MergePlan, plan_merge


@pytest.fixture
def planned(two_sides: Callable) -> Callable[..., MergePlan]:
    """A plan at λ for the pair that `two_sides` writes with the given options."""

    def make(lam: float | Coefficients = 0.8, *, donor: Any = "thinking", **options: Any) -> MergePlan:
        own = {key: options.pop(key) for key in ("instruct", "thinking") if key in options}
        pair = Pair.open(*map(str, two_sides(**own)), donor=donor)
        pair.check()
        return plan_merge(pair, lam if isinstance(lam, Coefficients) else Coefficients.scalar(lam), **options)

    return make


@pytest.fixture(scope="session")
def digests() -> Callable[[Path], dict[str, str]]:
    """File name → SHA-256 of a folder's files."""

    def read(folder: Path) -> dict[str, str]:
        return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}

    return read
