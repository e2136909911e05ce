"""What mull costs on vLLM: switching λ in place, a λ per request in one batch, and a whole sweep.

    python perf/vllm.py [switch] [mixed] [sweep] [--large] [--rounds 4] [--batches 1 8 64] [--mergekit PYTHON]

Needs vLLM in this environment. On the built-in pair, with --large on a random pair of about 100 M parameters. All
engines run side by side and take turns; the best of the rounds counts, and only ratios within one run are reported.

switch   `set_weights` beside: moving as many bytes (both ends read, the live weights written), vLLM's own
         `reload_weights` from the merged checkpoint, and the start of a new engine
mixed    tokens per second of a batch whose rows have 8 λ in turn, beside vLLM on one checkpoint
sweep    `mull sweep --engine vllm` beside merging, starting vLLM and generating for each λ, with mergekit's merge
         (mull's if --mergekit names no Python)
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = str(Path(__file__).resolve().parent)
sys.path[:] = [path for path in sys.path if path != HERE]  # else `import vllm` would find this file

import numpy as np  # noqa: E402
import torch  # noqa: E402

from mull.checkpoints.pair import Pair  # noqa: E402
from mull.engines.base import Request, Sampling  # noqa: E402
from mull.merging.coefficients import Coefficients  # noqa: E402
from mull.merging.streaming.plan import plan_merge  # noqa: E402
from mull.merging.streaming.stream import merge  # noqa: E402
from mull.tiny import checkpoint_folder  # noqa: E402

LAMS = (0.0, 0.3, 0.45, 0.5, 0.55, 0.7, 0.85, 1.0)
TOKENS = 100
PROMPT = 40
VLLM: dict[str, Any] = {"generation_config": "vllm", "skip_tokenizer_init": True, "disable_log_stats": True}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=["switch", "mixed", "sweep"], default=["switch", "mixed", "sweep"])
    parser.add_argument("--large", action="store_true", help="a random pair of about 100 M parameters")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--eager", action="store_true", help="without torch.compile and CUDA graphs")
    parser.add_argument("--memory", type=float, default=0.3, help="share of a GPU's memory for each engine")
    parser.add_argument("--mergekit", help="a Python that has mergekit", metavar="PYTHON")
    arguments = parser.parse_args()
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    with tempfile.TemporaryDirectory(prefix="mull-perf-") as temporary:
        folder = Path(temporary)
        pair = random_pair(folder) if arguments.large else {s: checkpoint_folder(s) for s in ("instruct", "thinking")}
        options = {"enforce_eager": arguments.eager, "max_model_len": 1024, "max_num_seqs": 128}
        if torch.cuda.is_available():
            options["gpu_memory_utilization"] = arguments.memory
        print(f"{'random' if arguments.large else 'built-in'} pair, {device()}")
        if "switch" in arguments.parts:
            switch(pair, folder, arguments.rounds, options)
        if "mixed" in arguments.parts:
            mixed(pair, arguments.batches, arguments.rounds, options)
        if "sweep" in arguments.parts:
            sweep(pair, folder, arguments.mergekit, options)


def device() -> str:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else f"{os.cpu_count()} CPU cores"


def random_pair(folder: Path) -> dict[str, Path]:
    """Two random Qwen3 models of about 100 M parameters, bfloat16, with the built-in pair's tokenizer."""
    from transformers import AutoModelForCausalLM, Qwen3Config

    config = Qwen3Config(
        vocab_size=8192, hidden_size=768, intermediate_size=2304, num_hidden_layers=12, num_attention_heads=12,
        num_key_value_heads=4, head_dim=64, max_position_embeddings=2048, tie_word_embeddings=False,
        eos_token_id=1, pad_token_id=0, bos_token_id=None,
    )  # fmt: skip
    for seed, side in enumerate(("instruct", "thinking")):
        torch.manual_seed(seed)
        AutoModelForCausalLM.from_config(config).bfloat16().save_pretrained(folder / side)
        for file in checkpoint_folder("thinking").glob("*token*"):
            (folder / side / file.name).write_bytes(file.read_bytes())
        template = checkpoint_folder("thinking") / "chat_template.jinja"
        if template.is_file():
            (folder / side / template.name).write_bytes(template.read_bytes())
    return {side: folder / side for side in ("instruct", "thinking")}


def engine(pair: dict[str, Path], options: dict[str, Any], *, by_row: bool = False) -> Any:
    from mull.engines.vllm.engine import VllmEngine

    sizes = dict(options)
    context, rows = sizes.pop("max_model_len"), sizes.pop("max_num_seqs")
    return VllmEngine(pair, by_row=by_row, context=context, batch_size=rows, options=sizes)


def plain(folder: Path, options: dict[str, Any]) -> Any:
    """vLLM on one checkpoint, as it comes."""
    from vllm import LLM

    dtype = "auto" if torch.cuda.is_available() else "float32"
    return LLM(str(folder), dtype=dtype, **VLLM, **options)


def merged(pair: dict[str, Path], lam: float, out: Path) -> Path:
    opened = Pair.open(str(pair["instruct"]), str(pair["thinking"]))
    return merge(plan_merge(opened, Coefficients.scalar(lam)), out)


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def switch(pair: dict[str, Path], folder: Path, rounds: int, options: dict[str, Any]) -> None:
    halves = {lam: merged(pair, lam, folder / f"merged-{lam}") for lam in (0.3, 0.7)}
    live = engine(pair, options)
    starting: list[Any] = []
    started = seconds(lambda: starting.append(plain(halves[0.3], options)))
    alone = starting[0]
    lams, folders = iter([0.35, 0.8, 0.45, 0.62] * rounds), iter([halves[0.7], halves[0.3]] * rounds)
    elements = sum(info.numel for info in Pair.open(*map(str, pair.values())).thinking.tensors.values())
    on = "cuda" if torch.cuda.is_available() else "cpu"
    ends = [torch.zeros(elements, dtype=torch.bfloat16, device=on) for _ in range(2)]
    out = torch.zeros(elements, dtype=torch.bfloat16 if on == "cuda" else torch.float32, device=on)

    def move() -> None:
        out.copy_(ends[0])
        ends[1].view(torch.int16).max()

    ways: dict[str, Callable[[], object]] = {
        "switch": lambda: live.set_weights(Coefficients.scalar(next(lams))),
        "move": move,
        "reload": lambda: alone.collective_rpc("reload_weights", kwargs={"weights_path": str(next(folders))}),
    }
    best = dict.fromkeys(ways, float("inf"))
    for _ in range(rounds):
        for name, work in ways.items():
            best[name] = min(best[name], seconds(work))
    best["start"] = started
    print(f"switch λ, {elements / 1e6:.1f} M parameters:")
    for name, taken in best.items():
        print(f"  {name:7}{taken:9.4f} s  {taken / best['switch']:8.2f} × switch", flush=True)
    live.close()
    stop(alone)


def stop(llm: Any) -> None:
    llm.llm_engine.engine_core.shutdown()


def mixed(pair: dict[str, Path], batches: list[int], rounds: int, options: dict[str, Any]) -> None:
    from vllm import SamplingParams

    one, many = plain(pair["thinking"], options), engine(pair, options, by_row=True)
    many.prompts.stop_ids = frozenset()
    generator = np.random.default_rng(0)
    prompts = [generator.integers(5, 300, PROMPT).tolist() for _ in range(max(batches))]
    params = SamplingParams(temperature=0, max_tokens=TOKENS, ignore_eos=True, detokenize=False, logprobs=0)

    def alone(batch: int) -> None:
        one.generate([{"prompt_token_ids": ids} for ids in prompts[:batch]], params, use_tqdm=False)

    def rows(batch: int) -> None:
        sampling = Sampling(temperature=0, max_tokens=TOKENS)
        requests = [
            Request(id=str(i), prompt_ids=tuple(ids), seed=0, sampling=sampling, lam=LAMS[i % len(LAMS)])
            for i, ids in enumerate(prompts[:batch])
        ]
        assert sum(len(completion.token_ids) for completion in many.generate(requests)) == batch * TOKENS

    print(f"a λ per request, {TOKENS} tokens each:")
    for batch in batches:
        best = {"plain": float("inf"), "rows": float("inf")}
        for _ in range(rounds):
            one.reset_prefix_cache()
            many._llm.reset_prefix_cache()
            best["plain"] = min(best["plain"], seconds(lambda b=batch: alone(b)))
            best["rows"] = min(best["rows"], seconds(lambda b=batch: rows(b)))
        speed = batch * TOKENS / best["plain"]
        print(f"  batch {batch:3}: plain {speed:8,.0f} tokens/s; rows {best['rows'] / best['plain']:.2f} × its time")
    stop(one)
    many.close()


def sweep(pair: dict[str, Path], folder: Path, mergekit: str | None, options: dict[str, Any]) -> None:
    """5 λ, 20 questions, 4 samples."""
    lams, common = (0.0, 0.4, 0.6, 0.8, 1.0), ["--questions", "20", "-k", "4"]
    given = [f"--engine-option={name}={str(value).lower()}" for name, value in options.items() if "max" not in name]
    command = [sys.executable, "-m", "mull.cli.main", "sweep", "--engine", "vllm", *given, *common]
    sides = ["--instruct", str(pair["instruct"]), "--thinking", str(pair["thinking"])]

    def ours() -> None:
        grid = ["--lambdas", ",".join(map(str, lams)), "--run", str(folder / "run")]
        subprocess.run([*command, *sides, *grid], check=True, capture_output=True)

    def theirs() -> None:
        for lam in lams:
            out = folder / f"theirs-{lam}"
            if mergekit:
                recipe = folder / f"{lam}.yml"
                recipe.write_text(
                    f"merge_method: linear\ndtype: bfloat16\nmodels:\n"
                    f"  - model: {pair['instruct']}\n    parameters: {{weight: {1 - lam}}}\n"
                    f"  - model: {pair['thinking']}\n    parameters: {{weight: {lam}}}\n"
                )
                script = str(Path(mergekit).parent / "mergekit-yaml")
                subprocess.run([script, str(recipe), str(out)], check=True, capture_output=True)
            else:
                merged(pair, lam, out)
            ends = ["--instruct", str(out), "--thinking", str(out), "--lambdas", "1"]
            subprocess.run([*command, *ends, "--run", str(folder / f"run-{lam}")], check=True, capture_output=True)

    first, second = seconds(ours), seconds(theirs)
    merger = "mergekit" if mergekit else "mull merge"
    print(f"a sweep of {len(lams)} λ: {first:.1f} s; merging ({merger}), loading and generating for each: "
          f"{second:.1f} s, {second / first:.2f} ×")  # fmt: skip


if __name__ == "__main__":
    main()
