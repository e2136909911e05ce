"""Memory does not grow with the responses of a run: neither while it is sampled nor when it is reported."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "perf" / "scale.py"


def measured(**sizes):
    options = [f"--{name}={value}" for name, value in sizes.items()]
    done = subprocess.run([sys.executable, str(SCRIPT), "--json", *options], stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout)


def test_memory_does_not_grow_with_the_responses():
    few, many = (measured(questions=10, lambdas=5, samples=samples) for samples in (10, 40))
    assert (few["responses"], many["responses"]) == (500, 2000)
    assert many["store_mb"] - few["store_mb"] > 90
    assert many["sweep"]["peak_mb"] - few["sweep"]["peak_mb"] < 10
    assert many["report"]["peak_mb"] - few["report"]["peak_mb"] < 30  # the page itself is up to 8 MB of JSON
    assert many["export"]["peak_mb"] - few["export"]["peak_mb"] < 70  # row groups under way in polars


@pytest.mark.slow
def test_a_sweep_of_25_000_responses_of_20_000_tokens():
    """30 questions × 64 samples × 13 λ; needs 1.7 GB of disk, for a minute."""
    found = measured(questions=30, samples=64, lambdas=13, characters=66_000)
    assert found["responses"] == 24_960 and found["store_mb"] > 1600
    assert found["sweep"]["peak_mb"] < 150
    assert found["report"]["peak_mb"] < 500
    assert found["export"]["peak_mb"] < 500
