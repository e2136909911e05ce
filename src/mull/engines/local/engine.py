"""In-process text generation at any λ, with transformers' models, on CPU or GPU.

Combines the weights (`weights`), the batching loop (`loop`) and the donor's tokenizer, chat template and end-of-text
tokens. Knows no benchmark.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import torch

from mull.engines.base import Completion, Request
from mull.engines.local.decoding.attention import ATTENTION
from mull.engines.local.decoding.loop import OnToken, RowLoop
from mull.engines.local.decoding.rows import Finished, Lookahead
from mull.engines.local.prompts import Prompts
from mull.engines.local.reading import Reading, read
from mull.engines.local.same_bits import STEPS, kernels, row_step
from mull.engines.local.support import check_supported
from mull.engines.local.workers import AVAILABLE, run_in_workers
from mull.engines.memory import MEMORY_REMEDY, free_memory, memory_errors
from mull.engines.weights.by_row import RowLambdas, mix_by_row
from mull.engines.weights.interpolated import InterpolatedModel
from mull.engines.weights.placement import Placement
from mull.errors import MullError
from mull.merging.coefficients import Coefficients
from mull.merging.coefficients.recipe import Recipe

BATCH_SIZE = 128
"""Default number of rows at once; fewer if memory is short. For a model of 1 M parameters on CPU, 128 to 256 rows take
about the same CPU time per token, 64 rows a fifth to a third more (`perf/engine.py`)."""
ROWS_PER_PROCESS = 16
"""With fewer requests than this per process, no further processes are started."""
SMALL_MODEL = 64 << 20
"""Bytes of weights up to which matrix products are faster on one thread."""


class LocalEngine:
    """Generates from Θ(λ); implements `mull.engines.base.Engine`.

    A response depends only on its prompt, seed and sampling parameters and on the weights, as far as the kernels allow.
    Each response has its own random numbers. On CPU in float32, on one or two threads, its logits have the same bits
    alone or in a batch, in any slot and order, at any batch size, beside rows of any length and in any process. For
    that, decode steps have a multiple of `row_step` rows (8 or more, tried on the model's layers at the start), prompts
    are padded to a multiple of 16 tokens or of `row_step` and attend beside prompts of the same padded length only, and
    attention widths are multiples of 64. For such shapes torch sums each row in the same order (tested, but guaranteed
    by no library).

    This is not promised if `row_step` is None (on GPUs, and on processors where kernels differ for any number of rows);
    in 16 bits; with a λ per row; on more threads; for prompts that take their beginning from an earlier row, as
    `Streams` lets them; and for mixture-of-experts layers, whose products have as many rows as tokens were routed to an
    expert. There logits agree up to rounding, and long responses may differ from where two
    tokens were almost equally likely. Another number of threads, machine or version of torch (`kernels`) gives other
    last bits in any case.
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
        by_row: bool = False,
        ends: Placement | None = None,
    ) -> None:
        """Loads both checkpoints; the weights are the donor's until `set_weights`. `others`: further checkpoints by
        role. `prompts`: the donor's, if the caller has read them already.

        `dtype` of the arithmetic: by default float32 on CPU, else the checkpoint's. `batch_size`: the largest number of
        rows at once in each process; by default `BATCH_SIZE`, or fewer if their cache does not fit into free memory.
        `threads`: torch's threads, for the whole process; by default 1 for a small model on CPU, whose matrix products
        are slower on several threads, else torch's default. `processes`: how many processes decode at the same time,
        each on one thread; by default one per core for a small model on CPU if `threads` is not given, else 1.
        `by_row`: every request names its λ, and one batch may hold any number of them. The weights are then those of
        Θ(λ) without the rounding of a merged checkpoint, and cost the memory and the work of two models;
        `set_weights` is not available. `ends`: where the checkpoints' weights are kept, by default `chosen_placement`;
        `by_row` reads them once, from their files.

        Raises `MullError` for folders that are no pair, and for models whose logits the batching loop does not reach.
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
                ends=Placement.files if by_row else ends,
            )
            self.model = self._weights.model
            self._layout, self._dtype = check_supported(self.model), self.model.dtype
        self._batch_size = batch_size or BATCH_SIZE
        small = is_small(self.device, _weight_bytes(self.model))
        if threads or small:
            torch.set_num_threads(threads or 1)
        self._processes = processes or (default_processes(small) if not threads else 1)
        on_cpu = self.device.type == "cpu"
        self.row_step = row_step(self.model) if on_cpu else None
        """Rows of a decode step are a multiple of this on CPU; None: a response's last bits may depend on its batch."""
        self.kernels = kernels(self.device, self._dtype, self.row_step)
        """What decides the last bits of responses, in words."""
        self._fewest_rows = self.row_step or (STEPS[0] if on_cpu else 1)
        self._vocabulary = len(next(self.model.get_input_embeddings().parameters()))
        self._version = 0
        self._lams: RowLambdas | None = None
        if by_row:
            with memory_errors(f"on {self.device} with {instruct} and {thinking}", MEMORY_REMEDY):
                self._lams = mix_by_row(self.model, self._weights.parameters)
                check_supported(self.model, self._lams.set)

    def set_weights(self, weights: Coefficients | Recipe) -> None:
        """Computes the weights in place from the loaded checkpoints. A running `generate` cannot continue then."""
        if self._lams is not None:
            raise MullError("an engine with a λ per row has no weights to set", "Give each request its λ")
        self._version += 1
        recipe = weights if isinstance(weights, Recipe) else Recipe(weights)
        with memory_errors(f"on {self.device} while mixing", MEMORY_REMEDY):
            self._weights.make(recipe)

    def generate(self, requests: Iterable[Request]) -> Iterator[Completion]:
        """Completions in the order in which they finish; requests are taken as slots become free.

        `max_tokens` is limited to what the context leaves after the prompt. Raises `MullError` for an empty prompt, for
        one that fills the context, and if the weights were changed since the call. After an iterator is dropped or
        interrupted, the engine can be used again.
        """
        if isinstance(requests, Sequence):  # find an error in the last request before work on the first
            for request in requests:
                self.check(request)
        return self._generate(requests)

    def _generate(self, requests: Iterable[Request]) -> Iterator[Completion]:
        version = self._version

        waiting = Lookahead(self.check(request) for request in requests)
        processes = self._processes if waiting.at_least(ROWS_PER_PROCESS * self._processes) else 1
        free = free_memory(self.device) // processes

        def make_loop() -> RowLoop:
            return self.row_loop(free)

        rows = (
            run_in_workers(make_loop, waiting, processes)
            if processes > 1
            else chain.from_iterable(make_loop().steps(waiting))
        )
        for row in _with_memory_errors(rows, self.device):
            if self._version != version:
                raise MullError("the weights were changed while responses were generated", "Finish or drop them first")
            yield self.completion(row)

    def completion(self, row: Finished, text: str | None = None) -> Completion:
        """The response of a finished row; `text`: what is left of its text, where a stop string cuts it."""
        token_ids = tuple(row.tokens.tolist())
        text = self.prompts.text(token_ids) if text is None else text
        return Completion(
            id=row.request.id,
            token_ids=token_ids,
            logprobs=tuple(row.logprobs.tolist()),
            text=text,
            finish="stop" if row.stopped else "length",
            seconds=row.seconds,
            prompt_tokens=len(row.request.prompt_ids),
            forced=row.forced,
            thought_tokens=self.prompts.thought_tokens(token_ids, text, finished=row.stopped),
        )

    def read(self, prompts: Sequence[Sequence[int]], lam: float) -> Iterator[Reading]:
        """What Θ(λ) knows at the end of each prompt (token ids), in their order; for engines with a λ per row.

        Raises `MullError` for an empty prompt or one longer than the context.
        """
        if self._lams is None:
            raise MullError("an engine without a λ per row reads prompts at its present weights only")
        for number, prompt in enumerate(prompts):
            if not 0 < len(prompt) <= self.context:
                raise MullError(f"prompt {number} has {len(prompt)} tokens, and the model's context is {self.context}")
        lams = self._lams

        def model(*, input_ids: torch.Tensor, **inputs: Any) -> Any:
            lams.set(torch.full((len(input_ids),), lam, device=self.device))
            return self.model(input_ids=input_ids, **inputs)

        return read(model, prompts, self.device)

    def row_loop(
        self,
        free: int | None = None,
        on_token: OnToken | None = None,
        alternatives_of: Callable[[Request], int] | None = None,
        prefix_bytes: int | None = 0,
    ) -> RowLoop:
        """A loop over the present weights, whose cache takes at most half of `free` bytes (default: free memory).

        `on_token`, `alternatives_of` and `prefix_bytes`: see `RowLoop`.
        """
        return RowLoop(
            self.model,
            batch=self._batch_size,
            context=self.context,
            stop_ids=self.prompts.stop_ids,
            device=self.device,
            dtype=self._dtype,
            layout=self._layout,
            free=free_memory(self.device) if free is None else free,
            row_step=self._fewest_rows,
            set_lams=self._lams.set if self._lams else None,
            on_token=on_token,
            prefix_bytes=prefix_bytes,
            budget_of=self.prompts.budget,
            alternatives_of=alternatives_of,
        )

    def check(self, request: Request) -> Request:
        """`request`, if this engine can answer it; else raises `MullError`."""
        length = len(request.prompt_ids)
        if length == 0:
            raise MullError(f"request {request.id!r} has an empty prompt")
        if length >= self.context:
            raise MullError(
                f"the prompt of request {request.id!r} has {length} tokens and the model's context {self.context}",
                "Shorten the prompt",
            )
        if (request.lam is None) != (self._lams is None):
            asks = "names no λ" if request.lam is None else f"asks for λ = {request.lam:g}"
            has = "a λ per row" if self._lams is not None else "one λ for all rows"
            raise MullError(f"request {request.id!r} {asks}, and the engine has {has}")
        vocabulary = self._vocabulary
        if min(request.prompt_ids) < 0 or max(request.prompt_ids) >= vocabulary:
            raise MullError(f"request {request.id!r} holds token ids outside the vocabulary of {vocabulary}")
        if request.sampling.budget_message:
            self.prompts.budget(request)  # whether the message can be used
        return request


def is_small(device: torch.device, weight_bytes: int) -> bool:
    """Whether one thread is fastest for a model of so many bytes."""
    return device.type == "cpu" and weight_bytes <= SMALL_MODEL


def default_processes(small: bool) -> int:
    """How many processes decode at the same time."""
    return len(os.sched_getaffinity(0)) if small and AVAILABLE else 1


def _weight_bytes(model: torch.nn.Module) -> int:
    return sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())


def device_of(name: str) -> torch.device:
    """The device called `name` ("auto": a GPU if there is one). Raises `MullError` if there is no such device."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise MullError(f"unknown device {name!r}", _DEVICES) from error
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise MullError(f"device {name!r} is not available: torch {torch.__version__} sees none", "Give --device cpu")
    if device.type not in ("cpu", "cuda", "mps"):
        raise MullError(f"the local engine does not run on device {name!r}", _DEVICES)
    if device.type == "cuda":
        if not torch.cuda.is_available():
            why = "sees no CUDA GPU" if torch.backends.cuda.is_built() else "is built without CUDA"
            raise MullError(f"device {name!r} is not available: torch {torch.__version__} {why}", "Give --device cpu")
        count = torch.cuda.device_count()
        if (device.index or 0) >= count:
            raise MullError(f"device {name!r} is not available", f"The last of this machine is cuda:{count - 1}")
    return device


_DEVICES = "Give auto, cpu, cuda, cuda:N or mps"


def _with_memory_errors(rows: Iterable[Finished], device: torch.device) -> Iterator[Finished]:
    """`rows`; raises `MullError` if memory runs out meanwhile."""
    with memory_errors(f"on {device} while generating", "Lower --batch-size or --max-tokens, or free memory"):
        yield from rows
