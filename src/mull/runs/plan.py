"""The plan of a sweep: everything that decides which responses are sampled, in one hashed record."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Any

from mull.benchmarks import Benchmark, Question
from mull.benchmarks.several import Several
from mull.checkpoints.checkpoint import Checkpoint
from mull.checkpoints.fingerprint import fingerprint
from mull.checkpoints.pair import Pair
from mull.engines.base import Sampling
from mull.engines.remote.endpoints import Endpoints
from mull.errors import MullError
from mull.runs.settings import Setting
from mull.thinking import KNOWN, PLAIN, ThinkTags


class StudyKind(StrEnum):
    """The studies of `mull sweep`, `mull compare` and `mull ablate`; `other` is anything else."""

    sweep = "sweep"
    compare = "compare"
    layers = "layers"
    modules = "modules"
    decoding = "decoding"
    backbone = "backbone"
    other = "other"


@dataclass(frozen=True)
class SweepPlan:
    """Which weights answer which questions how often, and how."""

    pair: Pair | None
    """The two ends; None where servers answer, which `endpoints` names."""
    settings: Sequence[Setting]
    """The weights, one setting each: a λ grid, or any others. Labels must differ."""
    benchmark: Benchmark
    k: int
    """Samples per question and setting."""
    sampling: Sampling
    seed: int = 0
    engine: str = "local"
    """Engine and arithmetic, e.g. "local/float32/cpu". They belong to the plan because they change the samples.
    Sessions fill this in (`mull.runs.sessions.loading`)."""
    others: Mapping[str, Checkpoint] = field(default_factory=dict)
    """Further checkpoints that settings name by their role, such as a base."""
    endpoints: Endpoints | None = None
    study: StudyKind | None = None
    """What the settings vary. By default `sweep` if every setting has a λ, else `other`."""
    think_tags: Sequence[ThinkTags] | None = None
    """The delimiters of thoughts; None: see `tags`."""
    date: str | None = None
    """The day that a chat template is told if it asks for it, as YYYY-MM-DD; None: today."""
    limits: Mapping[str, int] = field(default_factory=dict)
    """Most tokens per response by benchmark, where several differ in it; the sampling has the largest."""

    def __post_init__(self) -> None:
        labels = [setting.label for setting in self.settings]
        twice = next((label for label in labels if labels.count(label) > 1), None)
        if twice is not None:
            raise MullError(f"two settings of a run are called {twice!r}", "leave one out")
        names = [tensor.name for tensor in self.pair.tensors] if self.pair else []
        for setting in self.settings if self.pair else ():
            setting.recipe.coefficients.resolve(names)  # refuses a selector that matches nothing

    @cached_property
    def tags(self) -> tuple[ThinkTags, ...]:
        """The delimiters of thoughts: those that are given, else those that the pair's templates and vocabularies name,
        else all that are known. A server's reply may have `<think>` in any case, where mull joins its two parts."""
        if self.think_tags is not None:
            return tuple(dict.fromkeys((*self.think_tags, *(PLAIN if self.pair is None else ()))))
        return (self.pair.think_tags if self.pair else ()) or KNOWN

    @cached_property
    def template_date(self) -> str | None:
        """The day that the donor's chat template is told; None if it does not ask."""
        template = self.pair.donor.tokenizer.chat_template if self.pair else None
        if not isinstance(template, str) or "strftime_now" not in template:
            return None
        return self.date or datetime.now().date().isoformat()

    def going_on(self, record: Mapping[str, Any]) -> SweepPlan:
        """This plan with the delimiters and the day of the run whose plan is `record`, unless others are given."""
        tags = self.think_tags if self.think_tags is not None else tags_of(record)
        return replace(self, think_tags=tags, date=self.date or record.get("date"))

    @cached_property
    def record(self) -> dict[str, Any]:
        """The plan as JSON. It has hashes of the weights and no paths, so that a moved checkpoint is the same plan."""
        questions = [(q.id, q.text, q.gold) for q in self.benchmark.questions()]
        return {
            "study": self._study().value,
            **self._sources(),
            "settings": {setting.label: setting.to_json() for setting in self.settings},
            "benchmark": self.benchmark.describe(),
            "questions": hashlib.sha256(json.dumps(questions).encode()).hexdigest()[:16],
            "k": self.k,
            "sampling": self.sampling.record(),
            "seed": self.seed,
            "engine": self.engine,
            **({"think_tags": [list(tags) for tags in self.tags]} if self.tags != PLAIN else {}),
            **({"date": self.template_date} if self.template_date else {}),
            **({"limits": dict(self.limits)} if self.limits else {}),
        }

    def _study(self) -> StudyKind:
        if self.study is not None:
            return self.study
        return StudyKind.sweep if all(setting.lam is not None for setting in self.settings) else StudyKind.other

    def _sources(self) -> dict[str, Any]:
        """The checkpoints that the weights are made from, or the servers that answer."""
        if self.pair is None:
            return self.endpoints.record() if self.endpoints else {}
        return {
            **self.pair.fingerprints,
            **{role: fingerprint(checkpoint) for role, checkpoint in self.others.items()},
            "donor": self.pair.donor_side,
        }

    @cached_property
    def digest(self) -> str:
        return hashlib.sha256(json.dumps(self.record, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def total(self) -> int:
        """Number of responses."""
        return len(self.settings) * self.per_setting

    @property
    def per_setting(self) -> int:
        """Number of responses of one setting."""
        return len(self.benchmark.questions()) * self.k

    def sampling_of(self, setting: Setting, question: Question) -> Sampling:
        """How a question is answered under a setting: with the token limit of its benchmark."""
        sampling = setting.sampling or self.sampling
        limit = self.limits.get(question.benchmark)
        return sampling if limit is None else replace(sampling, max_tokens=min(limit, sampling.max_tokens))

    def sample_seed(self, question: str, index: int) -> int:
        """Seed of one sample (63 bits), the same for every setting, so that settings are compared sample by sample.

        It is that of a run of the question's benchmark alone."""
        if isinstance(self.benchmark, Several):
            question = self.benchmark.own_id(question)
        text = f"{self.seed}/{question}/{index}".encode()
        return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little") >> 1


def benchmarks_of(record: Mapping[str, Any]) -> list[str]:
    """The names of the benchmarks of a plan record that has several; none where it has one."""
    return list(record["benchmark"].get("parts", ()))


def benchmark_of(record: Mapping[str, Any], question: Mapping[str, str]) -> Mapping[str, Any]:
    """The record of the benchmark that a question (`RunStore.questions`) of this plan record belongs to."""
    name = question.get("benchmark")
    return record["benchmark"]["parts"][name] if name else record["benchmark"]


def refuse_several(record: Mapping[str, Any], folder: Path, why: str) -> None:
    """Raise `MullError` for the run in `folder` if its plan record has several benchmarks."""
    if benchmarks_of(record):
        raise MullError(
            f"{folder} holds several benchmarks ({', '.join(benchmarks_of(record))}), and {why}",
            "sweep each into a run of its own",
        )


def tags_of(record: Mapping[str, Any]) -> tuple[ThinkTags, ...]:
    """The delimiters of thoughts by which the run of this plan record was graded; `<think>` alone is not recorded."""
    return tuple(ThinkTags(*tags) for tags in record.get("think_tags", PLAIN))


def differences(
    old: dict[str, Any], new: dict[str, Any], prefix: str = "", names: tuple[dict[str, Any], dict[str, Any]] = ({}, {})
) -> list[str]:
    """One line for each entry in which two plan records differ: `k: 8 → 16`.

    `names`: the old and the new provenance; the lines show a checkpoint's name from there beside its hash.
    """
    if not prefix and ("models" in old) != ("models" in new):
        sides = [f"{'endpoints' if 'models' in side else 'checkpoints'} ({side.get('engine')})" for side in (old, new)]
        return [f"answered by {sides[0]} → {sides[1]}"]
    lines = []
    for key in [*old, *(key for key in new if key not in old)]:
        before, after = old.get(key), new.get(key)
        if isinstance(before, dict) and isinstance(after, dict) and key != "settings":
            lines += differences(before, after, f"{prefix}{key}.")
        elif key == "settings" and before != after:
            lines.append(f"λ: {', '.join(before or {})} → {', '.join(after or {})}")
        elif before != after:
            if key == "think_tags":
                before, after = (", ".join(map(str, tags_of(side))) for side in (old, new))
            if key in ("instruct", "thinking"):
                before, after = _named(str(before), str(after), *(str(side.get(key, "")) for side in names))
            lines.append(f"{prefix}{key}: {before} → {after}")
    return lines


def _named(before: str, after: str, old: str, new: str) -> tuple[str, str]:
    """Two hashes, each after its checkpoint's name. The names are shortened if the short names differ."""
    if _short(old) != _short(new):
        old, new = _short(old), _short(new)
    return (f"{old} ({before})" if old else before), (f"{new} ({after})" if new else after)


def _short(name: str) -> str:
    """The end of a long path; a hub id is short."""
    parts = Path(name).parts
    return str(Path("…", *parts[-2:])) if len(parts) > 3 else name
