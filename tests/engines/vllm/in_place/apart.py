"""An engine in a process of its own: `python -m tests.engines.vllm.in_place.apart JSON`.

Either mull's, whose weights are set to one recipe after the other, or vLLM alone on one checkpoint. Prints, for each,
the hash of every parameter on every worker and greedy texts.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ENVIRONMENT = {
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "OMP_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_ALLOW_INSECURE_SERIALIZATION": "1",  # a function is sent to the workers
}
SIZES = {"max_num_seqs": 8, "enforce_eager": True, "dtype": "float32"}
ROOT = Path(__file__).parents[4]


def run(**given: Any) -> list[dict[str, Any]]:
    """`folders` (and `donor`, `ends`) with `recipes`, or one `folder`; `prompts` as token ids; `options` of vLLM."""
    command = [sys.executable, "-m", "tests.engines.vllm.in_place.apart", json.dumps(given, default=str)]
    environment = os.environ | ENVIRONMENT
    found = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, check=False)
    assert found.returncode == 0, found.stderr[-4000:]
    return json.loads(found.stdout.splitlines()[-1])


def hashes(worker: Any) -> dict[str, str]:
    """Of this worker's parameters; runs there."""
    return {
        name: hashlib.sha256(parameter.data.cpu().contiguous().numpy().tobytes()).hexdigest()[:16]
        for name, parameter in worker.get_model().named_parameters()
    }


def _state(llm: Any, prompts: Sequence[Sequence[int]]) -> dict[str, Any]:
    from vllm import SamplingParams

    params = SamplingParams(temperature=0, max_tokens=24, ignore_eos=True, detokenize=False)
    outputs = llm.generate([{"prompt_token_ids": list(ids)} for ids in prompts], params, use_tqdm=False)
    texts = [list(output.outputs[0].token_ids) for output in outputs]
    return {"texts": texts, "hashes": llm.collective_rpc(hashes)}


def _main(given: Mapping[str, Any]) -> None:
    if "folder" in given:
        from vllm import LLM

        llm = LLM(given["folder"], skip_tokenizer_init=True, **SIZES, **given.get("options", {}))
        print("\n" + json.dumps([_state(llm, given["prompts"])]))
        return
    from mull.engines.vllm.engine import VllmEngine
    from mull.engines.weights.placement import Placement
    from mull.merging.coefficients.recipe import Recipe

    options = {name: value for name, value in SIZES.items() if name not in ("max_num_seqs", "dtype")}
    engine = VllmEngine(
        {role: Path(folder) for role, folder in given["folders"].items()},
        donor=given.get("donor", "thinking"),
        batch_size=8,
        ends=Placement(given.get("ends", "device")),
        options=options | given.get("options", {}),
    )
    found = []
    for recipe in given["recipes"]:
        engine.set_weights(Recipe.from_json(recipe))
        found.append(_state(engine._llm, given["prompts"]))
    print("\n" + json.dumps(found))


if __name__ == "__main__":
    _main(json.loads(sys.argv[1]))
