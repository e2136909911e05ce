"""Checks and measures on a GPU what CPUs alone cannot: in less than ten minutes, without network.

    python perf/gpu.py [--scale 0.5] [--rounds 5]

Every part says what it found or why it did not run, and failures are counted in the exit status:

merge    each method with --device cuda gives the bytes of the CPU
weights  live weights on the GPU are the CPU's, wherever the ends are kept; seconds per λ beside moving as many bytes
rows     a λ per row: logits beside the mixture's, and a decode step beside one plain model's
texts    greedy responses of rows with a λ each are those of the merged checkpoints (float32)
vllm     `perf/vllm.py` and the tests of tests/engines/vllm, CUDA graphs on, where vLLM is installed
"""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:] = [path for path in sys.path if path != str(HERE)]  # vllm.py lies here, too

import torch  # noqa: E402
from transformers import AutoModelForCausalLM, Qwen3Config  # noqa: E402

from mull.checkpoints.checkpoint import Checkpoint  # noqa: E402
from mull.checkpoints.pair import Group, Pair  # noqa: E402
from mull.engines.base import Request, Sampling  # noqa: E402
from mull.engines.local.engine import LocalEngine  # noqa: E402
from mull.engines.weights.interpolated import InterpolatedModel  # noqa: E402
from mull.engines.weights.placement import Placement  # noqa: E402
from mull.merging.coefficients import Coefficients  # noqa: E402
from mull.merging.methods import METHODS, make  # noqa: E402
from mull.merging.streaming.plan import plan_merge  # noqa: E402
from mull.merging.streaming.stream import merge  # noqa: E402
from mull.tiny import checkpoint_folder  # noqa: E402

LAMS = (0.0, 0.0001, 0.3, 0.5, 0.7, 1.0)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=0.5, help="share of a 0.6B model's layers and vocabulary")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cuda", help="cpu tries the script itself")
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        print(f"no part ran: torch {torch.__version__} sees no CUDA GPU")
        return 0
    torch.backends.cuda.matmul.allow_tf32 = False
    name = torch.cuda.get_device_name() if arguments.device == "cuda" else "CPU"
    print(f"{name}, torch {torch.__version__}")
    failed = 0
    with tempfile.TemporaryDirectory(prefix="mull-gpu-") as temporary:
        folder = Path(temporary)
        random_models(folder, arguments.scale)
        parts: dict[str, Callable[[], object]] = {
            "merge": lambda: merges(folder, arguments.device),
            "weights": lambda: weights(folder, arguments.device, arguments.rounds),
            "rows": lambda: rows(folder, arguments.device, arguments.rounds),
            "texts": lambda: texts(folder, arguments.device),
            "vllm": vllm,
        }
        for part, work in parts.items():
            started = time.perf_counter()
            try:
                work()
            except Exception:
                failed += 1
                print(f"{part}: FAILED\n{traceback.format_exc()}")
            print(f"{part}: {time.perf_counter() - started:.0f} s", flush=True)
    return failed


def random_models(folder: Path, scale: float) -> None:
    for seed, side in enumerate(("instruct", "thinking", "base")):
        torch.manual_seed(seed)
        config = Qwen3Config(
            vocab_size=round(151_936 * scale), hidden_size=1024, intermediate_size=3072, num_attention_heads=16,
            num_key_value_heads=8, head_dim=128, num_hidden_layers=max(1, round(28 * scale)), tie_word_embeddings=True,
            eos_token_id=1, pad_token_id=0, bos_token_id=None,
        )  # fmt: skip
        AutoModelForCausalLM.from_config(config).bfloat16().save_pretrained(folder / side)
        for file in (*checkpoint_folder("thinking").glob("*token*"), *checkpoint_folder("thinking").glob("*.jinja")):
            (folder / side / file.name).write_bytes(file.read_bytes())


def merges(folder: Path, device: str) -> None:
    for name, kind in METHODS.items():
        models = [Checkpoint(folder / side) for side in ("instruct", "thinking")]
        base = Checkpoint(folder / "base") if kind.base == "required" else None
        coefficients = Coefficients.scalar(0.7 if kind.coefficient == "lambda" else kind.default or 1.0)
        took: list[float] = []
        outs: list[Path] = []
        for on in ("cpu", device):
            outs.append(folder / f"{name}-{len(outs)}")
            plan = plan_merge(Group(models, base), coefficients, method=make(name))
            started = time.perf_counter()
            merge(plan, outs[-1], device=on)
            took.append(time.perf_counter() - started)
        first, second = (sorted(out.glob("*.safetensors")) for out in outs)
        same = all(a.read_bytes() == b.read_bytes() for a, b in zip(first, second, strict=True))
        assert same, f"{name}: other bytes on {device}"
        print(f"  {name:14} the same bytes; {took[1] / took[0]:.2f} × the CPU's time", flush=True)
        for out in outs:
            for file in out.glob("*.safetensors"):
                file.unlink()


def pair_options(folder: Path) -> tuple[Path, Path]:
    return folder / "instruct", folder / "thinking"


def weights(folder: Path, device: str, rounds: int) -> None:
    shared = {"donor": "thinking", "dtype": torch.bfloat16, "trust_remote_code": False}
    expected = InterpolatedModel(*pair_options(folder), device=torch.device("cpu"), **shared)
    for ends in Placement:
        live = InterpolatedModel(*pair_options(folder), device=torch.device(device), ends=ends, **shared)
        for lam in LAMS:
            for model in (expected, live):
                model.set(Coefficients.scalar(lam))
            for a, b in zip(expected.parameters, live.parameters, strict=True):
                assert torch.equal(a.live, b.live.cpu()), f"{a.name} at λ = {lam}, ends on {ends}"
        best = min(timed(lambda live=live: live.set(Coefficients.scalar(0.35)), device) for _ in range(rounds))
        elements = sum(parameter.live.numel() for parameter in live.parameters)
        buffers = [torch.zeros(elements, dtype=torch.bfloat16, device=device) for _ in range(3)]

        def move(buffers: list[torch.Tensor] = buffers) -> None:
            buffers[2].copy_(buffers[0])
            buffers[1].view(torch.int16).max()

        bare = min(timed(move, device) for _ in range(rounds))
        print(
            f"  ends {ends.value:7} {best:.4f} s per λ, {6 * elements / best / 1e9:.0f} GB/s, "
            f"{best / bare:.2f} × moving the bytes on the device",
            flush=True,
        )


def timed(work: Callable[[], object], device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    started = time.perf_counter()
    work()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def rows(folder: Path, device: str, rounds: int) -> None:
    ids = torch.randint(5, 1000, (8, 64), generator=torch.Generator().manual_seed(0)).to(device)
    lams = torch.linspace(0, 1, 8)
    for dtype in (torch.float32, torch.bfloat16):
        plain = LocalEngine(*pair_options(folder), device=device, dtype=dtype, ends=Placement.memory)
        mixed = LocalEngine(*pair_options(folder), device=device, dtype=dtype, by_row=True)
        assert mixed._lams is not None
        with torch.inference_mode():
            mixed._lams.set(lams.to(device))
            found = mixed.model(input_ids=ids).logits.float()
            worst = 0.0
            for row, lam in enumerate(lams.tolist()):
                plain.set_weights(Coefficients.scalar(lam))
                worst = max(worst, (plain.model(input_ids=ids[row : row + 1]).logits.float() - found[row]).abs().max())
            shown = str(dtype).removeprefix("torch.")
            print(f"  {shown}: at most {float(worst):.2g} from the logits of checkpoints rounded to bfloat16")
            for batch in (1, 8, 64):
                step = ids[:1, :1].expand(batch, 1)
                mixed._lams.set(torch.linspace(0, 1, batch).to(device))
                took = {
                    name: min(timed(lambda m=model, ids=step: m(input_ids=ids), device) for _ in range(4 * rounds))
                    for name, model in (("plain", plain.model), ("rows", mixed.model))
                }
                print(f"    batch {batch:2}: {took['rows'] / took['plain']:.2f} × a plain step", flush=True)


def texts(folder: Path, device: str) -> None:
    from mull.engines.local.opening import open_rows

    pair = Pair.open(str(checkpoint_folder("instruct")), str(checkpoint_folder("thinking")))
    many = open_rows(pair, device=device)
    one = LocalEngine(pair.instruct.folder, pair.thinking.folder, device=device, dtype=torch.float32)
    prompts = [many.render([{"role": "user", "content": f"What is {17 + i} + {25 + i}?"}]) for i in range(5)]
    sampling = Sampling(temperature=0, max_tokens=120)

    def requests(lam: float | None) -> list[Request]:
        return [Request(id=str(i), prompt_ids=p, seed=0, sampling=sampling, lam=lam) for i, p in enumerate(prompts)]

    same = total = 0
    for lam in (0.0, 0.4, 0.6, 1.0):
        one.set_weights(Coefficients.scalar(lam))
        expected = {each.id: each.text for each in one.generate(requests(None))}
        found = {each.id: each.text for each in many.generate(requests(lam))}
        same += sum(found[key] == text for key, text in expected.items())
        total += len(expected)
    print(f"  {same} of {total} greedy texts are those of weights rounded to bfloat16")


def vllm() -> None:
    if importlib.util.find_spec("vllm") is None:
        print("  did not run: vLLM is not installed here")
        return
    for command in (
        [sys.executable, str(HERE / "vllm.py"), "switch", "mixed", "--large"],
        [sys.executable, "-m", "pytest", "-q", "-m", "vllm", "-p", "no:cacheprovider", "tests/engines/vllm"],
    ):
        done = subprocess.run(command, capture_output=True, text=True, cwd=HERE.parent, timeout=420, check=False)
        print("  " + "\n  ".join(done.stdout.splitlines()[-14:]))
        assert done.returncode == 0, done.stderr[-3000:]


if __name__ == "__main__":
    sys.exit(main())
