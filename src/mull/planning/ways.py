"""The ways to serve or sweep a pair: which of them a machine has room for, how fast at most, and which to take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import Literal, NamedTuple

from mull.planning.architecture import Architecture
from mull.planning.hardware import Cluster
from mull.planning.roofline import (
    USABLE,
    WORKSPACE,
    Load,
    Split,
    prefill_seconds,
    rows_that_fit,
    splits,
    step_seconds,
    switch_seconds,
)
from mull.words import counted, format_bytes

RANK = 64
"""Rank of the adapters that are planned with."""
_CLOSE = 1.05
"""Bounds that differ by less do not decide between two ways: the simpler one is taken."""
_FASTER = 1.25
"""By so much the bound must be better for a replica of more GPUs, whose exchanges cost more than it says."""
_CLUSTERS = [(n, 1) for n in (1, 2, 4, 8)] + [(8, n) for n in (2, 3, 4, 6, 8, 16)]
"""GPUs of a node and nodes, tried in this order to find the smallest machine that has room."""


class Way(NamedTuple):
    """One way."""

    key: str
    title: str
    copies: int
    """Models in the memory of the GPUs."""
    reads: int
    """Models that a step reads."""
    lambdas: Literal["in one batch", "in turns", "one a replica"]
    engine: Literal["local", "vllm", "stock"]
    ends: Literal["on GPU", "in CPU memory", "on disk"] = "on disk"
    """Where the two checkpoints are while it works."""
    exact: bool = True


WAYS = (
    Way("merged", "merged, stock server", 1, 1, "one a replica", "stock"),
    Way("row", "vLLM, λ per request", 2, 2, "in one batch", "vllm", "on GPU"),
    Way("place", "vLLM, λ in place", 3, 1, "in turns", "vllm", "on GPU"),
    Way("place-cpu", "vLLM, ends in CPU memory", 1, 1, "in turns", "vllm", "in CPU memory"),
    Way("local", "local, λ in place", 1, 1, "in turns", "local", "in CPU memory"),
    Way("local-row", "local, λ per row", 2, 2, "in one batch", "local", "on GPU"),
    Way("adapters", "adapters, stock server", 1, 1, "in one batch", "stock", exact=False),
)
"""Simpler ones first within their kind."""
_FOR_SWEEPS = ("place", "place-cpu", "merged")
"""Ways of a sweep, one λ after the other; those without further steps first."""


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """What is asked for."""

    prompt: int
    tokens: int
    """Mean of a response."""
    concurrent: int | None
    """Responses under way at once; None: as many as there is room for."""
    lambdas: int
    """Different λ in use at the same time."""

    @property
    def length(self) -> int:
        """Of a response with its prompt."""
        return self.prompt + self.tokens


class Fit(NamedTuple):
    """How a way lies on a machine. Times are lower bounds."""

    way: Way
    refused: str
    """Why it cannot be; then the figures below are 0."""
    held: float
    """Bytes that one replica holds on its GPUs, beside keys and values."""
    split: Split = Split()
    replicas: int = 0
    rows: int = 0
    """Responses at full length that one replica has room for."""
    batch: int = 0
    """Those under way in it."""
    step: float = 0.0
    """Seconds in which each of them gets a token more."""
    requests_per_second: float = 0.0
    """At most, of all replicas, at the traffic's concurrency."""
    tokens_per_second: float = 0.0
    requests_at_most: float = 0.0
    """The same with as many under way as there is room for."""
    switch: float | None = None
    """Seconds to another λ; None if there is nothing to switch."""
    all_lambdas: bool = False
    """Whether every λ is served without a request waiting for the responses at another one."""

    def lambdas(self, wanted: int) -> str:
        """Of so many λ, those that requests can have, in a word or two."""
        if self.all_lambdas:
            return "all"
        return "in turns" if self.way.lambdas == "in turns" else f"{self.replicas} of {wanted}"


def fits(model: Architecture, cluster: Cluster, traffic: Traffic) -> list[Fit]:
    """All ways on this machine, in the order of `WAYS`."""
    return [fit(way, model, cluster, traffic) for way in WAYS]


def fit(way: Way, model: Architecture, cluster: Cluster, traffic: Traffic) -> Fit:
    """One way on this machine, or why it is refused.

    Of the splits that are close to the best at full load the one with the fewest GPUs for a replica is taken: those it
    leaves make further replicas. A λ for each replica goes first where every replica has one.
    """
    model = held_as(way, model)
    load = load_of(way, model, traffic.lambdas)
    held = load.copies * model.weight_bytes() + load.beside
    refused = _refusal(way, model)
    if refused:
        return Fit(way, refused, held)
    one = Cluster(gpu=cluster.gpu) if way.engine == "local" else cluster
    options = [_fit(way, model, one, traffic, load, held, *each) for each in splits(model, one)]
    options = [option for option in options if option.rows]
    if not options:
        usable = one.gpus * (USABLE * cluster.gpu.memory - WORKSPACE)
        needed = held + model.kv_bytes(traffic.length)
        return Fit(way, f"no room: {_gb(needed)} for weights and one response, of {_gb(usable)} usable", held)
    if any(option.all_lambdas for option in options):
        options = [option for option in options if option.all_lambdas]
    best = max(option.requests_at_most for option in options)
    close = [option for option in options if option.requests_at_most * _FASTER >= best]
    return min(close, key=lambda option: (option.split.gpus, option.split.pipeline))


def _fit(
    way: Way,
    model: Architecture,
    cluster: Cluster,
    traffic: Traffic,
    load: Load,
    held: float,
    split: Split,
    replicas: int,
) -> Fit:
    gpu = cluster.gpu
    rows = rows_that_fit(model, gpu, split, load, traffic.length)
    found = Fit(way, "", held, split, replicas, rows)
    if not rows:
        return found
    wanted = rows * replicas if traffic.concurrent is None else traffic.concurrent
    turns, switch = 1, None
    if way.lambdas == "in turns":
        turns = ceil(min(traffic.lambdas, wanted) / replicas)
        switch = switch_seconds(model, gpu, split, way.ends == "on GPU")
    context = traffic.prompt + traffic.tokens / 2
    prefill = prefill_seconds(model, gpu, split, load, traffic.prompt)

    def step_at(batch: float) -> float:
        return step_seconds(model, gpu, split, load, max(1.0, batch / turns), context)

    def requests_at(batch: float) -> float:
        """A second, of one replica. In a cycle of turns each response gets a token; a turn lasts a whole response."""
        switching = turns * switch / traffic.tokens if switch and traffic.lambdas > replicas else 0.0
        cycle = turns * step_at(batch) + switching
        return batch / (batch * prefill + traffic.tokens * cycle)

    batch = min(rows, ceil(wanted / replicas))
    requests = min(replicas, wanted) * requests_at(batch)
    return found._replace(
        batch=batch,
        step=step_at(batch),
        requests_per_second=requests,
        tokens_per_second=requests * traffic.tokens,
        requests_at_most=replicas * requests_at(rows),
        switch=switch,
        all_lambdas=way.lambdas == "in one batch" or replicas >= traffic.lambdas,
    )


def held_as(way: Way, model: Architecture) -> Architecture:
    """What a way holds of a quantised pair: weights that are still to be mixed must be dequantised."""
    return model if way.engine == "stock" else model.dequantised()


def load_of(way: Way, model: Architecture, lambdas: int) -> Load:
    """What a way has on the GPUs for so many λ."""
    beside = 0.0 if way.exact else model.adapter_bytes(RANK) * lambdas
    return Load(way.copies, way.reads, beside)


def _refusal(way: Way, model: Architecture) -> str:
    if way.key == "adapters" and model.experts:
        return "not planned: the experts would need adapters of their own, which few servers take"
    return ""


def smallest(way: Way, model: Architecture, cluster: Cluster, traffic: Traffic) -> Cluster | None:
    """The first machine of the same GPUs with room for the way; None if none of those tried has."""
    if _refusal(way, model):
        return None
    for per_node, nodes in _CLUSTERS[:1] if way.engine == "local" else _CLUSTERS:
        machine = replace(cluster, per_node=per_node, nodes=nodes)
        if not fit(way, model, machine, traffic).refused:
            return machine
    return None


def sweep_way(found: Sequence[Fit]) -> Fit | None:
    """The way of a sweep, found for one λ at a time: the fastest bound, the simpler way of those that are close."""
    by_key = {each.way.key: each for each in found if not each.refused}
    return best_of([by_key[key] for key in _FOR_SWEEPS if key in by_key])


def serving_way(found: Sequence[Fit], traffic: Traffic) -> tuple[Fit | None, str]:
    """The way to serve the traffic, and the reason.

    The local engine is not proposed: it has room where vLLM has, and is further from its bound.
    """
    possible = {each.way.key: each for each in found if not each.refused and each.way.engine != "local"}
    exact = [each for each in possible.values() if each.way.exact]
    merged = possible.get("merged")
    if traffic.lambdas == 1 and merged:
        return merged, "one λ: a merged checkpoint costs what one model costs, on any server"
    best = best_of([each for each in exact if each.all_lambdas])
    if best is not None and best.way.key == "row":
        return best, "one batch for all λ: no request waits for another λ, at twice the weights read and multiplied"
    if best is not None:
        return best, (
            f"{counted(best.replicas, 'replica')} for {traffic.lambdas} λ: one λ each, and before them a router that "
            "goes by model name; a replica for every λ, where it can be, reads and multiplies twice the weights"
        )
    turns = best_of([each for each in exact if each.way.lambdas == "in turns"])
    if turns is not None:
        return turns, (
            f"{traffic.lambdas} λ take turns on {counted(turns.replicas, 'replica')}: a request waits while others are "
            f"answered at another λ; with {traffic.lambdas} replicas, one λ each, it would not"
        )
    if merged:
        return merged, (
            f"room for {merged.replicas} of {traffic.lambdas} λ at the same time: serve fewer λ, or take more GPUs, a "
            "replica for each λ"
        )
    return possible.get("adapters"), "an approximation: nothing exact has room" if possible else "nothing has room"


def beside(found: Fit, model: Architecture, lambdas: int) -> str:
    """What a way needs outside the GPUs, in words; empty if it is no more than the two checkpoints on disk."""
    one = held_as(found.way, model).weight_bytes()
    if found.way.ends == "in CPU memory":
        return f"CPU memory for both ends: {_gb(2 * one)} a replica"
    if found.way.key == "merged":
        return f"disk for {counted(lambdas, 'merged checkpoint')}: {_gb(lambdas * one)}"
    return ""


def without_plugins(found: Sequence[Fit], best: Fit, lams: Sequence[float]) -> str:
    """How servers that take adapters and no plugin answer at these λ, in words; empty where they have no room, or can
    do what is proposed."""
    adapters = next((each for each in found if each.way.key == "adapters" and not each.refused), None)
    levels = ",".join(f"{lam:g}" for lam in lams if lam > 0)
    if adapters is None or best.way.key == "merged" or not levels:
        return ""
    return (
        "servers without mull's plugin: adapters, all λ in one batch, an approximation "
        f"(mull extract-delta --rank {RANK} --levels {levels})"
    )


def quantised(model: Architecture) -> list[str]:
    """What mixing fp8 checkpoints takes, in a sentence; nothing for others."""
    plain = model.dequantised()
    if plain is model:
        return []
    return [
        f"{model.name} is stored in fp8 ({_gb(model.weight_bytes())}), and mull mixes no quantised weights: dequantise "
        f"both ends to bfloat16 ({_gb(plain.weight_bytes())} each) and merge those. The result, quantised again by "
        "another tool, is what a stock server loads; in place the weights stay bfloat16"
    ]


def best_of(found: Sequence[Fit]) -> Fit | None:
    """The first whose bound is close to the best."""
    most = max((each.requests_at_most for each in found), default=0.0)
    return next((each for each in found if each.requests_at_most * _CLOSE >= most), None)


def _gb(nbytes: float) -> str:
    return format_bytes(round(nbytes)) if nbytes < 10e9 else f"{nbytes / 1e9:,.0f} GB"
