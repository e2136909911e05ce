"""In-process text generation at any λ, with transformers' models, on CPU or GPU.

Joins the weights (`weights`), the batching loop (`loop`) and the donor's tokenizer, chat template and end-of-text
tokens. Knows no benchmark.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Literal

import torch

from mull.engines.base import Completion, Request
from mull.engines.local.cache import ATTENTION
from mull.engines.local.loop import RowLoop
from mull.engines.local.prompts import Prompts
from mull.engines.local.rows import Finished, Lookahead
from mull.engines.local.support import bytes_per_position, check_supported
from mull.engines.local.workers import AVAILABLE, run_in_workers
from mull.engines.memory import MEMORY_REMEDY, memory_errors
from mull.engines.weights.interpolated import InterpolatedModel
from mull.errors import MullError
from mull.merging.coefficients import Coefficients
from mull.merging.coefficients.recipe import Recipe

BATCH_SIZE = 128
"""Rows at once when the caller does not say, before the memory limit. For a model of 1 M parameters on CPU, 128 to 256
cost about the same CPU time per token, 64 a fifth to a third more (`perf/engine.py`)."""
ROWS_PER_PROCESS = 16
"""Fewer requests than this per process are not worth starting processes for."""
SMALL_MODEL = 64 << 20
"""Bytes of weights below which matrix products are too small to be shared between threads."""


class LocalEngine:
    """Generates from Θ(λ); implements `mull.engines.base.Engine`.

    What a response depends on: its prompt, seed and sampling parameters and the weights, and nothing else, as far as
    the kernels allow. Its random numbers are its own. On CPU in float32 its logits are the same bits alone or in a
    batch, in any slot and order, at any batch size, beside rows of any length and in any process: decode steps have a
    multiple of 8 rows, prompts are padded to a multiple of 16 tokens, attention widths are multiples of 64, and within
    those shapes torch's BLAS was found to sum each row in the same order (tested; its makers promise nothing). Outside
    this: another number of threads, machine or torch version; mixture-of-experts layers, whose products have as many
    rows as tokens were routed to an expert; GPUs and 16-bit compute, where kernels are chosen by batch size. There
    logits agree to rounding, and a long response may part from its twin at a near-tie.
    """

    def __init__(
        self,
        instruct: Path,
        thinking: Path,
        *,
        donor: Literal["instruct", "thinking"] = "thinking",
        device: str = "auto",
        dtype: torch.dtype | None = None,
        batch_size: int | None = None,
        threads: int | None = None,
        processes: int | None = None,
        trust_remote_code: bool = False,
        others: Mapping[str, Path] | None = None,
        prompts: Prompts | None = None,
    ) -> None:
        """Loads both ends; the weights are the donor's until `set_weights`. `others`: further checkpoints by role.
        `prompts`: the donor's, where a caller has read them already.

        `dtype` of the arithmetic: float32 on CPU unless given, elsewhere the checkpoint's. `batch_size`: most rows at
        once in each process; by default what measured best, less where the free memory does not hold its cache.
        `threads`: torch's threads, for the whole process; by default 1 for a small model on CPU, whose matrix products
        cost more to share than they take, else torch's own choice. `processes`: how many decode side by side, each on
        one thread; by default one per core for a small model on CPU when `threads` is not given, else 1.
        Raises `MullError` for folders that are no pair, and for architectures whose cache is not plain attention.
        """
        if donor not in ("instruct", "thinking"):
            raise MullError(f"donor must be 'instruct' or 'thinking', got {donor!r}")
        if batch_size is not None and batch_size < 1:
            raise MullError(f"batch_size must be positive, got {batch_size}")
        self.device = device_of(device)
        self.prompts = prompts or Prompts(Path(instruct if donor == "instruct" else thinking), trust_remote_code)
        self.render, self.context = self.prompts.render, self.prompts.context
        with memory_errors(f"on {self.device} with {instruct} and {thinking}", MEMORY_REMEDY):
            self._weights = InterpolatedModel(
                Path(instruct),
                Path(thinking),
                donor=donor,
                device=self.device,
                dtype=dtype,
                trust_remote_code=trust_remote_code,
                attention=ATTENTION,
                others=others,
            )
            self.model = self._weights.model
            check_supported(self.model)
        self._batch_size = batch_size or BATCH_SIZE
        small = self.device.type == "cpu" and _weight_bytes(self.model) <= SMALL_MODEL
        if threads or small:
            torch.set_num_threads(threads or 1)
        self._processes = processes or (len(os.sched_getaffinity(0)) if small and not threads and AVAILABLE else 1)
        self._vocabulary = len(next(self.model.get_input_embeddings().parameters()))
        self._version = 0

    def set_weights(self, weights: Coefficients | Recipe) -> None:
        """Makes the weights, in place, of the checkpoints held. A `generate` under way cannot go on afterwards."""
        self._version += 1
        recipe = weights if isinstance(weights, Recipe) else Recipe(weights)
        with memory_errors(f"on {self.device} while mixing", MEMORY_REMEDY):
            self._weights.make(recipe)

    def generate(self, requests: Iterable[Request]) -> Iterator[Completion]:
        """Completions in the order in which they finish; requests are taken as slots become free.

        `max_tokens` is cut to what the context leaves behind the prompt. Raises `MullError` for an empty prompt, for
        one that leaves no room, and when the weights were changed since the call. A dropped or interrupted iterator
        leaves the engine ready for the next call.
        """
        if isinstance(requests, Sequence):  # a mistake in the last request should not cost the work on the first
            for request in requests:
                self._check(request)
        return self._generate(requests)

    def _generate(self, requests: Iterable[Request]) -> Iterator[Completion]:
        version = self._version

        waiting = Lookahead(self._check(request) for request in requests)
        processes = self._processes if waiting.at_least(ROWS_PER_PROCESS * self._processes) else 1
        per_position = bytes_per_position(self.model)
        free = _free_memory(self.device) // processes

        def make_loop() -> RowLoop:
            return RowLoop(
                self.model,
                batch=self._batch_size,
                context=self.context,
                stop_ids=self.prompts.stop_ids,
                device=self.device,
                dtype=self.model.dtype,
                bytes_per_position=per_position,
                free=free,
            )

        rows = (
            run_in_workers(make_loop, waiting, processes)
            if processes > 1
            else chain.from_iterable(make_loop().steps(waiting))
        )
        rows = _reported(rows, self.device)
        for row in rows:
            if self._version != version:
                raise MullError("the weights were changed while responses were generated", "Finish or drop them first")
            token_ids = tuple(row.tokens.tolist())
            text = self.prompts.text(token_ids)
            yield Completion(
                id=row.request.id,
                token_ids=token_ids,
                logprobs=tuple(row.logprobs.tolist()),
                text=text,
                finish="stop" if row.stopped else "length",
                seconds=row.seconds,
                prompt_tokens=len(row.request.prompt_ids),
                thought_tokens=self.prompts.thought_tokens(token_ids, text, finished=row.stopped),
            )

    def _check(self, request: Request) -> Request:
        length = len(request.prompt_ids)
        if length == 0:
            raise MullError(f"request {request.id!r} has an empty prompt")
        if length >= self.context:
            raise MullError(
                f"the prompt of request {request.id!r} has {length} tokens and the model's context {self.context}",
                "Shorten the prompt",
            )
        vocabulary = self._vocabulary
        if min(request.prompt_ids) < 0 or max(request.prompt_ids) >= vocabulary:
            raise MullError(f"request {request.id!r} holds token ids outside the vocabulary of {vocabulary}")
        return request


def _weight_bytes(model: torch.nn.Module) -> int:
    return sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())


def device_of(name: str) -> torch.device:
    """The device called `name` (auto: a GPU where there is one). Raises `MullError` where there is none such."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise MullError(f"unknown device {name!r}", _DEVICES) from error
    if device.type not in ("cpu", "cuda"):
        raise MullError(f"the local engine does not run on device {name!r}", _DEVICES)
    if device.type == "cuda":
        if not torch.cuda.is_available():
            why = "sees no CUDA GPU" if torch.backends.cuda.is_built() else "is built without CUDA"
            raise MullError(f"device {name!r} is not available: torch {torch.__version__} {why}", "Give --device cpu")
        count = torch.cuda.device_count()
        if (device.index or 0) >= count:
            raise MullError(f"device {name!r} is not available", f"The last of this machine is cuda:{count - 1}")
    return device


_DEVICES = "Give auto, cpu, cuda or cuda:N"


def _reported(rows: Iterable[Finished], device: torch.device) -> Iterator[Finished]:
    """`rows`, a failed allocation on the way as `MullError`."""
    with memory_errors(f"on {device} while generating", "Lower --batch-size or --max-tokens, or free memory"):
        yield from rows


def _free_memory(device: torch.device) -> int:
    """Bytes that could be allocated."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)  # torch's own to give
        return torch.cuda.mem_get_info(device)[0] + unused
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, ValueError, StopIteration):
        return 8 << 30
