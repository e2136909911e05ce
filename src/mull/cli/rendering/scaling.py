"""What `mull plan` shows: tables of a model, of the ways on a machine, of a sweep, and of all known models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mull.planning.architecture import Architecture
from mull.planning.configs import find, known
from mull.planning.cost import SweepCost
from mull.planning.hardware import Cluster
from mull.planning.ways import RANK, WAYS, Fit, Traffic, fit, smallest
from mull.reports.table import Cell, Column, Row, Table
from mull.words import counted

HOUR = 3600.0


def model_table(model: Architecture) -> Table:
    """Parameters and bytes by kind."""
    each, nbytes = model.parameters(), model.bytes_by_kind()
    rows = [Row(kind, [Cell(count), Cell(nbytes[kind])]) for kind, count in each.items()]
    rows += [
        Row("all", [Cell(model.total), Cell(model.weight_bytes())]),
        Row("used by a token", [Cell(model.active()), Cell()]),
    ]
    return Table(
        name="model",
        title=model.name,
        caption=f"{model.name} in {model.precision}; keys and values: {model.kv_bytes(1) / 1e3:,.1f} kB a token",
        head="weights",
        columns=[
            Column(key="parameters", head="parameters", unit="M", scale=1e-6),
            Column(key="bytes", head="memory", unit="GB", scale=1e-9, decimals=2),
        ],
        rows=rows,
    )


def ways_table(found: Sequence[Fit], model: Architecture, cluster: Cluster, traffic: Traffic, share: float) -> Table:
    """Every way on this machine, `share` of the bound being planned with."""
    rows = []
    for each in found:
        cells: list[Cell | str] = [Cell(each.held), "no", "–", *[Cell()] * 5]
        if not each.refused:
            counts = (each.rows * each.replicas, each.step)
            speeds = (each.tokens_per_second, share * each.tokens_per_second)
            switch = Cell() if each.switch is None else Cell(each.switch)
            split = f"{each.replicas} × {each.split}"
            cells = [Cell(each.held), split, each.lambdas(traffic.lambdas), *map(Cell, counts + speeds), switch]
        rows.append(Row(each.way.title, cells))
    load = "as many responses as fit" if traffic.concurrent is None else counted(traffic.concurrent, "response")
    whole: dict[str, Any] = {"decimals": 0}
    return Table(
        name="ways",
        title=f"{model.name} on {cluster}",
        caption=f"{model.name} on {cluster}: {load} at once, {traffic.lambdas} λ, {traffic.prompt:,} tokens of prompt "
        f"and {traffic.tokens:,} of response. Weights: of one replica. Step: a token more for each response that is "
        f"not waiting, at least. Switch: to another λ, at least. Planned: {share:.0%} of the bound, an assumption. "
        f"Adapters: rank {RANK}, an approximation",
        head="way",
        columns=[
            Column(key="weights", head="weights", unit="GB", scale=1e-9, **whole),
            Column(key="replicas", head="replicas", decimals=None),
            Column(key="lambdas", head="λ", decimals=None),
            Column(key="room", head="room for", **whole),
            Column(key="step", head="step", unit="ms", scale=1e3, decimals=2),
            Column(key="tokens_bound", head="at most", unit="tok/s", **whole),
            Column(key="tokens_planned", head="planned", unit="tok/s", **whole),
            Column(key="switch", head="switch", unit="s", decimals=3),
        ],
        rows=rows,
    )


def refusals(found: Sequence[Fit], model: Architecture, cluster: Cluster, traffic: Traffic) -> list[str]:
    """Why ways are not possible here, and from which machine on they are."""
    lines = []
    for each in found:
        if each.refused:
            least = smallest(each.way, model, cluster, traffic)
            lines.append(f"{each.way.title}: {each.refused}" + (f"; there is on {least}" if least else ""))
    return lines


def sweep_table(cost: SweepCost, share: float, source: str) -> Table:
    """Time of a sweep by λ. `source`: where the mean tokens are from."""

    def row(name: str, responses: int, tokens: float, seconds: float) -> Row:
        return Row(name, [Cell(responses), Cell(tokens), Cell(seconds / HOUR), Cell(seconds / share / HOUR)])

    rows = [row(f"λ {lam:g}", part.responses, part.tokens or 0.0, seconds) for lam, part, seconds in cost.lambdas]
    whole = cost.all
    rows.append(row("all", whole.responses, (whole.tokens or 0.0) / whole.responses, whole.seconds or 0.0))
    return Table(
        name="sweep",
        title="Sweep",
        caption=f"by {cost.fit.way.title}, {cost.fit.replicas} × {cost.fit.split}; tokens: {source}. Left out: loading "
        "and grading, and that the last responses of a λ fill no batch",
        head="setting",
        columns=[
            Column(key="responses", head="responses", decimals=0),
            Column(key="tokens", head="tokens", unit="each", decimals=0),
            Column(key="bound", head="hours", unit="at least", decimals=2),
            Column(key="planned", head="hours", unit="planned", decimals=2),
        ],
        rows=rows,
    )


def sweep_words(cost: SweepCost, share: float, price: float | None) -> str:
    """Its time and cost in one line."""
    hours = cost.hours(share)
    spent = f", {hours * cost.gpus * price:,.2f} at {price:,.2f} a GPU hour" if price is not None else ""
    return f"sweep, planned: {hours:,.2f} h on {counted(cost.gpus, 'GPU')} = {hours * cost.gpus:,.2f} GPU hours{spent}"


def overview_table(cluster: Cluster, traffic: Traffic) -> Table:
    """All known models on this machine: replicas of each way, or from which machine on it has room."""
    ways = [way for way in WAYS if way.engine != "local"]
    rows = []
    for name in known():
        model = find(name)
        cells = []
        for way in ways:
            found = fit(way, model, cluster, traffic)
            least = smallest(way, model, cluster, traffic) if found.refused else None
            none = f"from {_size(least)}" if least else "–"
            cells.append(none if found.refused else f"{found.replicas} × {found.split}")
        rows.append(Row(name, cells))
    return Table(
        name="overview",
        title=f"Ways on {cluster}",
        caption=f"on {cluster}: replicas × GPUs of one (TP: tensor parallel, PP: pipeline stages), or from how many "
        f"{cluster.gpu.name} on there is room (nodes × GPUs); –: refused, or no room on any tried. {traffic.prompt:,} "
        f"tokens of prompt and {traffic.tokens:,} of response",
        head="model",
        columns=[Column(key=way.key, head=way.title, decimals=None) for way in ways],
        rows=rows,
    )


def _size(cluster: Cluster) -> str:
    return str(cluster.per_node) if cluster.nodes == 1 else f"{cluster.nodes} × {cluster.per_node}"
