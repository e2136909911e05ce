"""An engine in a process of its own: `python -m tests.engines.vllm.per_request.apart JSON`.

For model runner V2, where vLLM must find Triton when it is imported, and for models whose classes in transformers vLLM
changes, so that they cannot be the reference in the same process. Writes tokens and logprobs as JSON.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.engines.vllm.per_request import triton_on_cpu
from tests.engines.vllm.per_request.pairs import FloatPair

Responses = list[tuple[list[int], list[float]]]


def generate_apart(
    pair: FloatPair,
    requests: list[tuple[list[int], float]],
    *,
    v2: bool = False,
    tokens: int | None = None,
    **options: Any,
) -> Responses:
    """The responses to `requests` of an engine started with `options`, by model runner V2 if `v2`."""
    given: dict[str, Any] = {
        "pair": list(map(str, pair)),
        "requests": requests,
        "v2": v2,
        "tokens": tokens,
        "options": options,
    }
    given["out"] = str(pair.thinking.parent / "responses.json")  # workers write to the standard output as they end
    command = [sys.executable, "-m", "tests.engines.vllm.per_request.apart", json.dumps(given)]
    environment = os.environ | (triton_on_cpu.ENVIRONMENT if v2 else {})
    environment["VLLM_CACHE_ROOT"] = str(pair.thinking.parent / "cache")  # of compiled code
    ran = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=Path(__file__).parents[4])
    assert ran.returncode == 0, ran.stderr[-3000:]
    return json.loads(Path(given["out"]).read_text())


def _main(given: dict[str, Any]) -> None:
    if given["v2"]:
        triton_on_cpu.install()
    from tests.engines.vllm.per_request.conftest import Rows, tokens_and_logprobs

    rows = Rows(FloatPair(*map(Path, given["pair"])), **given["options"])
    assert rows.llm.llm_engine.vllm_config.use_v2_model_runner == given["v2"]
    sampling = {"max_tokens": given["tokens"]} if given["tokens"] else {}
    outputs = rows.generate([(prompt, lam) for prompt, lam in given["requests"]], **sampling)
    Path(given["out"]).write_text(json.dumps([tokens_and_logprobs(output) for output in outputs]))


if __name__ == "__main__":
    _main(json.loads(sys.argv[1]))
