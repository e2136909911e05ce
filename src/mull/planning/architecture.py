"""`Architecture`: the matrices of a model. Its parameters by kind, their bytes, keys and values, operations.

The counts equal those of transformers' model of the same config (a test builds them without weights). Buffers, vision
towers and heads for multi-token prediction are not counted.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import NamedTuple

KINDS = ("embedding", "attention", "ffn", "experts", "router", "norms", "lm_head")


class Matrix(NamedTuple):
    """Alike weight matrices of linear layers, with their biases."""

    kind: str
    inputs: int
    outputs: int
    copies: int
    biases: bool = False

    @property
    def parameters(self) -> int:
        """Of all of them."""
        return self.copies * self.outputs * (self.inputs + self.biases)


@dataclass(frozen=True, kw_only=True)
class Latent:
    """Sizes of multi-head latent attention (DeepSeek-V2, 2405.04434): one compressed vector a token is cached."""

    queries: int
    keys: int
    rotary: int
    plain: int
    """Of a head's key without rotary position."""
    values: int


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """The sizes that decide about memory and time."""

    name: str
    layers: int
    hidden: int
    vocabulary: int
    tied: bool
    """Whether the output head is the embedding's matrix."""
    heads: int
    kv_heads: int
    head_size: int
    latent: Latent | None
    matrices: tuple[Matrix, ...]
    norms: int
    """Parameters of all norms."""
    experts: int
    """Of a layer; 0 for a dense model."""
    chosen: int
    """Experts that a token uses."""
    windowed: int
    """Layers that keep `window` positions only."""
    window: int
    precision: str
    """Of the stored weights: bfloat16, float16, float32 or fp8 (8-bit blocks with one scale each)."""
    block: int = 0
    """Weights that share a scale, if they are fp8."""

    def parameters(self) -> dict[str, int]:
        """Parameters by kind, in the order of `KINDS`; kinds without any are left out."""
        embedding = self.vocabulary * self.hidden
        found = Counter(embedding=embedding, norms=self.norms, lm_head=0 if self.tied else embedding)
        for matrix in self.matrices:
            found[matrix.kind] += matrix.parameters
        return {kind: found[kind] for kind in KINDS if found[kind]}

    @property
    def total(self) -> int:
        """All parameters."""
        return sum(self.parameters().values())

    def active(self) -> int:
        """Parameters that one token uses, embedding included, as models are named (A3B, A22B)."""
        return self.total - round(self.parameters().get("experts", 0) * (1 - self.touched(1)))

    def touched(self, rows: float) -> float:
        """The expected share of a layer's experts that a batch of `rows` tokens uses, if they were chosen by lot."""
        return 1 - (1 - self.chosen / self.experts) ** rows if self.experts else 1.0

    def weight_bytes(self, *, rows: float | None = None) -> float:
        """Bytes of all weights, or of those that a step with `rows` tokens reads: experts in use, and of an embedding
        only as many lines as tokens, unless it is the output head too."""
        found = self.bytes_by_kind()
        if rows is not None:
            found["experts"] = found.get("experts", 0) * self.touched(rows)
            if not self.tied:
                del found["embedding"]
        return sum(found.values())

    def bytes_by_kind(self) -> dict[str, float]:
        """Bytes of all weights. In fp8 checkpoints embedding, head, router and norms are 16-bit."""
        small = 1 + 4 / self.block if self.precision == "fp8" else 0.0
        plain = 4 if self.precision == "float32" else 2
        linear = ("attention", "ffn", "experts")
        return {kind: n * (small if small and kind in linear else plain) for kind, n in self.parameters().items()}

    def kv_bytes(self, tokens: float) -> float:
        """Bytes of the 16-bit keys and values of a response's `tokens`, in all layers."""
        each = 2 * (
            self.latent.keys + self.latent.rotary if self.latent is not None else 2 * self.kv_heads * self.head_size
        )
        return each * ((self.layers - self.windowed) * tokens + self.windowed * min(tokens, self.window))

    def kv_parts(self, tensor: int) -> int:
        """Over how many of `tensor` GPUs keys and values can be divided: whole heads, and a latent not at all."""
        return 1 if self.latent is not None else min(tensor, self.kv_heads)

    def flops(self, context: float, *, prefill: bool = False) -> float:
        """Operations for one token that sees `context` tokens: two for a weight in use, and attention.

        Of a prompt only the last token goes through the output head. Decoding kernels attend to latents as they are
        cached, `prefill` to the keys and values that are made of them.
        """
        embedding = self.vocabulary * self.hidden
        weights = self.active() - self.norms - (0 if self.tied else embedding) - (embedding if prefill else 0)
        size = 2 * self.heads * self.head_size
        if self.latent is not None:
            made = self.latent.plain + self.latent.rotary + self.latent.values
            size = self.heads * (made if prefill else 2 * self.latent.keys + self.latent.rotary)
        seen = (self.layers - self.windowed) * context + self.windowed * min(context, self.window)
        return 2 * weights + 2 * size * seen

    def adapter_bytes(self, rank: int) -> float:
        """Bytes of a 16-bit low-rank adapter on all linear layers but router and head."""
        linear = [matrix for matrix in self.matrices if matrix.kind != "router"]
        return 2 * sum(
            each.copies * min(rank, each.inputs, each.outputs) * (each.inputs + each.outputs) for each in linear
        )

    def dequantised(self) -> Architecture:
        """The same in bfloat16, as weights are mixed; itself if it is not fp8."""
        return replace(self, precision="bfloat16", block=0) if self.precision == "fp8" else self
