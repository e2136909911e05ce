"""Which server and model answer for which λ: by a pattern, or by a TOML file.

    url = "http://gpu-1:8000/v1"        # for rows without their own

    [[endpoint]]
    lambda = 0.4
    model = "merge-0.4"

    [[endpoint]]
    lambda = 1
    url = "http://gpu-2:8000/v1"
    model = "Qwen/Qwen3-4B-Thinking-2507"
    body = { chat_template_kwargs = { enable_thinking = true } }    # further fields of each request

Speaks no HTTP and knows no key.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mull.errors import MullError, naming, nearest
from mull.merging.coefficients import check_lambda
from mull.merging.coefficients.rules import shortest
from mull.toml import entry, read_toml

PLACE = "{lambda}"
"""Stands for the λ in patterns, in its shortest decimal form."""
OMITTABLE = ("max_tokens", "seed", "stream_options", "temperature", "top_k", "top_p")
"""Fields that some servers refuse."""
_OWN = {"model", "messages", "max_completion_tokens", "stream", "n", *OMITTABLE}


@dataclass(frozen=True)
class Target:
    """One model on one server."""

    url: str
    """Base URL, to which /chat/completions is added."""
    model: str
    body: Mapping[str, Any] = field(default_factory=dict)
    """Further fields of the request's JSON."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "url", _base_url(self.url))
        if not self.model:
            raise MullError(f"the model of {self.url} has no name", "give the name that the server goes by")
        for key in self.body:
            if key in _OWN:
                raise MullError(f"body sets {key!r}, which mull sets itself", "use the option of `mull sweep`")


@dataclass(frozen=True)
class Endpoints:
    """The target of every λ."""

    targets: Mapping[str, Target]
    """By λ in shortest decimal form."""
    omit: tuple[str, ...] = ()
    """Fields of `OMITTABLE` that are not sent."""

    def __post_init__(self) -> None:
        for name in self.omit:
            if name not in OMITTABLE:
                raise MullError(f"cannot leave out {name!r}", nearest(name, OMITTABLE))
        asked: dict[str, str] = {}
        for lam, target in self.targets.items():
            other = asked.setdefault(json.dumps([target.url, target.model, target.body], sort_keys=True), lam)
            if other != lam:
                raise MullError(
                    f"λ = {other} and λ = {lam} would ask the same model, {target.model!r} at {target.url}",
                    f"put {PLACE} into --model-map or --endpoint, or give each λ its own with --endpoint-map",
                )

    @classmethod
    def pattern(cls, url: str, model: str, lambdas: Sequence[float], omit: Sequence[str] = ()) -> Endpoints:
        """One target per λ, from texts in which `{lambda}` stands for it."""
        targets = {}
        for label in map(shortest, lambdas):
            where, name = (text.replace(PLACE, label) for text in (url, model))
            stray = re.search(r"\{.*?\}", where + " " + name)
            if stray:
                raise MullError(f"unknown placeholder {stray[0]} in the endpoint or model map", f"write {PLACE}")
            targets[label] = Target(where, name)
        return cls(targets, tuple(omit))

    @classmethod
    def read(cls, path: Path, *, extrapolate: bool = False, omit: Sequence[str] = ()) -> Endpoints:
        """The targets of a TOML file.

        Raises:
            MullError: what `read_toml` refuses, a λ twice or out of bounds, no URL; the message names file and row.
            OSError: the file cannot be read.
        """
        file = read_toml(path, _File)
        targets: dict[str, Target] = {}
        with naming(path):
            if not file.endpoint:
                raise MullError("it has no endpoints", "write [[endpoint]] above each λ")
            for number, row in enumerate(file.endpoint, start=1):
                with naming(f"endpoint {number}"):
                    check_lambda(row.lambda_, extrapolate=extrapolate)
                    label, url = shortest(float(row.lambda_)), row.url if row.url is not None else file.url
                    if url is None:
                        raise MullError("url is missing", 'write url = "http://host:8000/v1"')
                    if label in targets:
                        raise MullError(f"λ = {label} stands twice", "leave one out")
                    targets[label] = Target(url, row.model, row.body or {})
        return cls(dict(sorted(targets.items(), key=lambda item: float(item[0]))), tuple(omit))

    @property
    def lambdas(self) -> list[float]:
        """By rising λ."""
        return sorted(map(float, self.targets))

    def only(self, lambdas: Sequence[float]) -> Endpoints:
        """The targets of some λ. Raises `MullError` where one has none."""
        for label in map(shortest, lambdas):
            if label not in self.targets:
                raise MullError(f"λ = {label} has no endpoint", f"known: {', '.join(self.targets)}")
        return Endpoints({label: self.targets[label] for label in map(shortest, lambdas)}, self.omit)

    def record(self) -> dict[str, Any]:
        """For the plan of a run: names, not places, so that a server that moved continues its run."""
        named = {
            lam: {"model": t.model, **({"body": dict(t.body)} if t.body else {})} for lam, t in self.targets.items()
        }
        omitted = sorted(set(self.omit) - {"stream_options"})  # that one moves no sample
        return {"models": named, **({"omitted": omitted} if omitted else {})}


@dataclass(kw_only=True)
class _Row:
    lambda_: float = entry("lambda = 0.4")
    model: str = entry('model = "…"')
    url: str | None = entry('url = "http://host:8000/v1"', default=None)
    body: dict[str, Any] | None = entry('body = { reasoning_effort = "high" }', default=None)

    def __post_init__(self) -> None:
        try:
            json.dumps(self.body, allow_nan=False)
        except (TypeError, ValueError):  # TOML has dates and infinities, JSON none
            raise MullError("body holds what JSON cannot", "write texts, numbers, lists and tables") from None


@dataclass(kw_only=True)
class _File:
    endpoint: tuple[_Row, ...] = entry("[[endpoint]] above each λ", default=())
    url: str | None = entry('url = "http://host:8000/v1"', default=None)


def _base_url(text: str) -> str:
    example = "give it as in http://host:8000/v1"
    if "@" in text.split("//", 1)[-1].split("/", 1)[0]:  # may hold a secret: it is not repeated
        raise MullError("the endpoint's URL holds a user or a key", "put the key into an environment variable")
    try:
        parts = urlsplit(text)
        sound = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:  # a port that is no number, brackets that do not close
        sound = False
    if not sound or re.search(r"[?#\s]", text):
        raise MullError(f"{text!r} is no base URL of a server", example)
    url = text.rstrip("/")
    if url.endswith("/chat/completions"):
        raise MullError(f"{url} is the address of one call", f"give {url.removesuffix('/chat/completions')}")
    return url
