"""Hidden states and losses of one text at every λ of a grid: teacher-forced, so that all λ read the same tokens.

Where the model's family allows it, one forward pass has all λ as rows of its batch (`engines/weights/by_row.py`),
without the rounding of a merged checkpoint. Otherwise the weights are switched for each λ, and rounded as `mull merge`
rounds them. Only one text's states are in memory at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from mull.engines.local.engine import SMALL_MODEL
from mull.engines.memory import MEMORY_REMEDY, memory_errors
from mull.engines.weights.by_row import RowLambdas, mix_by_row
from mull.engines.weights.combining import LiveParameter
from mull.engines.weights.interpolated import InterpolatedModel
from mull.errors import MullError
from mull.merging.coefficients import Coefficients


class Reading(NamedTuple):
    """One text as the models of all L λ read it: n response tokens after a prompt."""

    states: list[Tensor]
    """Hidden states of the response's tokens, `[L, n, d]`: the embedding's, then those after each layer (transformers'
    `output_hidden_states`: the last are after the final norm)."""
    losses: Tensor
    """Sum of the negative log-likelihoods of the response's tokens in nats: float32 `[L]`."""


class Mixtures:
    """Θ(λ) = λ·Thinking + (1−λ)·Instruct at all λ of a grid."""

    def __init__(
        self,
        instruct: Path,
        thinking: Path,
        lams: Sequence[float],
        *,
        donor: Literal["instruct", "thinking"],
        device: torch.device,
        trust_remote_code: bool = False,
        shuffle: int | None = None,
        by_row: bool = True,
    ) -> None:
        """`shuffle`: shuffle Thinking's weights with this seed first (`shuffle_rows`). `by_row`: whether to try one
        pass for all λ.

        Raises `MullError` for folders that are no pair, and where memory runs out.
        """
        self.lams = tuple(lams)
        self._per_row = torch.tensor(lams, dtype=torch.float32, device=device)
        self.device, self._memory = device, f"on {device} with {instruct} and {thinking}"

        def load() -> InterpolatedModel:
            found = InterpolatedModel(
                instruct, thinking, donor=donor, device=device, dtype=None, trust_remote_code=trust_remote_code
            )
            if shuffle is not None:
                shuffle_rows(found.parameters, shuffle)
            return found

        with memory_errors(self._memory, MEMORY_REMEDY):
            self._weights: InterpolatedModel | None = load()
            self.model = self._weights.model
            self._rows: RowLambdas | None = None
            if by_row:
                try:
                    self._rows = mix_by_row(self.model, self._weights.parameters)
                    self._weights = None  # its ends are copied
                    self.read([0, 1], [2, 3])
                except (NotImplementedError, TypeError, AttributeError, RuntimeError, LookupError, ValueError) as error:
                    if isinstance(error, torch.OutOfMemoryError):
                        raise
                    self._rows, self._weights = None, load()
                    self.model = self._weights.model

    @property
    def rounded(self) -> bool:
        """Whether the weights are rounded as in a merged checkpoint."""
        return self._rows is None

    @torch.inference_mode()
    def read(self, prompt: Sequence[int], response: Sequence[int]) -> Reading:
        """The response after the prompt, as token ids."""
        with memory_errors(self._memory, "Lower --max-tokens, give fewer λ, or take a device with more memory"):
            ids = torch.tensor([*prompt, *response], device=self.device)[None]
            if self._rows is not None:
                self._rows.set(self._per_row)
                return _reading(self.model, ids.expand(len(self.lams), -1), len(response))
            assert self._weights is not None
            readings = []
            for lam in self.lams:
                self._weights.set(Coefficients.scalar(lam))
                readings.append(_reading(self.model, ids, len(response)))
            states = [torch.cat(layer) for layer in zip(*(reading.states for reading in readings), strict=True)]
            return Reading(states, torch.cat([reading.losses for reading in readings]))


def _reading(model: torch.nn.Module, ids: Tensor, count: int) -> Reading:
    """`ids` `[L, T]`, of which the last `count` are the response."""
    output = model(input_ids=ids, use_cache=False, output_hidden_states=True, logits_to_keep=count + 1)
    if not output.hidden_states or output.logits.shape[1] != count + 1:
        raise MullError(
            f"transformers gives no hidden states of model type {getattr(model.config, 'model_type', '?')!r}",
            "this study needs a causal language model of transformers",
        )
    losses = [  # one row at a time: logits in float32 are the largest tensors here
        torch.nn.functional.cross_entropy(logits[:-1].float(), row[-count:], reduction="sum")
        for logits, row in zip(output.logits, ids, strict=True)
    ]
    return Reading([layer[:, -count:] for layer in output.hidden_states], torch.stack(losses))


@torch.no_grad()
def shuffle_rows(parameters: Iterable[LiveParameter], seed: int) -> None:
    """Put the rows of each of Thinking's matrices, and the elements of its vectors, into a random order, in place.

    Sizes, norms of rows and distributions of elements stay; what the weights compute is lost. The same seed gives the
    same order.
    """
    generator = torch.Generator().manual_seed(seed)
    for parameter in parameters:
        end = parameter.thinking
        rows = end.view(-1) if end.dim() < 2 else end.view(-1, end.shape[-1])
        rows.copy_(rows[torch.randperm(len(rows), generator=generator).to(rows.device)])


@contextmanager
def one_thread_if_small(model: torch.nn.Module) -> Iterator[None]:
    """One thread for a small model, whose matrix products are slower on several threads."""
    before = torch.get_num_threads()
    if sum(parameter.nbytes for parameter in model.parameters()) <= SMALL_MODEL:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
