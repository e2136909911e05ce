"""A session that makes the pilot study of a pair (`mull.geometry.study`): on the responses of a run, or on its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from mull import __version__
from mull.analysis.metrics import SettingMetrics, metrics
from mull.benchmarks import Question
from mull.benchmarks.dataset import conversation
from mull.checkpoints.fingerprint import fingerprint
from mull.checkpoints.pair import Pair
from mull.engines.local.engine import device_of
from mull.engines.local.prompts import Prompts
from mull.errors import MullError, naming
from mull.geometry.frontier_shape import FrontierShape, frontier_shape
from mull.geometry.mixtures import Mixtures
from mull.geometry.prompts import Messages
from mull.geometry.relative_difference import RelativeDifference, relative_difference
from mull.geometry.study import Study, Sums, measured, study
from mull.geometry.texts import STYLES, Text, encoded, generated, long_enough, rendered
from mull.runs.plan import benchmark_of, tags_of
from mull.runs.sessions.observer import Observer
from mull.runs.store import RunStore
from mull.words import counted


@dataclass(frozen=True, kw_only=True)
class Computing:
    """Where the models run, and what bounds their work."""

    max_tokens: int = 512
    """Most tokens read of each response."""
    seed: int = 0
    """Of the control's shuffling and of the resampling."""
    device: str = "auto"
    trust_remote_code: bool = False


@dataclass(frozen=True, kw_only=True)
class Pilot:
    """All findings on a pair, and how they were made."""

    title: str
    """`INSTRUCT → THINKING`"""
    study: Study
    weights: RelativeDifference
    frontier: FrontierShape | None
    """Of the run; None without one."""
    metrics: list[SettingMetrics]
    """Of the run's λ; empty without one."""
    setup: dict[str, Any]


def pilot(
    pair: Pair,
    lams: Sequence[float],
    asked: Mapping[str, Messages] | None = None,
    *,
    run: RunStore | None = None,
    questions: int = 100,
    computing: Computing | None = None,
    observer: Observer | None = None,
) -> Pilot:
    """Study a checked pair on the first `questions` of `asked` (name → conversation), or of the run.

    Responses to `asked` are generated greedily by both ends; those of a run are its first samples at λ = 0 and λ = 1.
    The frontier's shape is that of the run, if it has three λ.

    Raises:
        MullError: neither or too few questions, a run of another pair or without responses of both ends, λ that do not
            rise from 0 to 1, or a model that the in-process engine cannot run.
    """
    computing, observer = computing or Computing(), observer or Observer()
    shape, of_run = None, []
    if run is not None:
        _check_pair(run, pair)
        samples = [sample for sample in run.samples(texts=False) if sample.lam is not None]
        try:
            shape, of_run = frontier_shape(samples, computing.seed), metrics(samples)
        except MullError as error:  # the rest of the study needs the ends' responses only
            observer.say(f"no shape of the frontier: {error}")
    device = device_of(computing.device)
    with observer.busy("reading the tokenizer"):
        prompts = _prompts(pair, run, computing)
    if asked is None:
        if run is None:
            raise MullError("the study has no questions", "give prompts or a run")
        texts = _recorded(run, prompts, questions, computing.max_tokens)
        source = f"first samples at λ 0 and 1 of {run.folder.name}, tokenised again"
    else:
        ids = rendered(prompts, dict(islice(asked.items(), questions)))
        with observer.counting("responses of both ends", 2 * len(ids)) as advance:
            texts = generated(
                pair,
                prompts,
                ids,
                max_tokens=computing.max_tokens,
                device=computing.device,
                trust_remote_code=computing.trust_remote_code,
                advance=advance,
            )
        source = "generated greedily by both ends"
    kept = long_enough(texts)

    def read(shuffle: int | None) -> tuple[Sums, bool]:
        name = "control" if shuffle is not None else "pair"
        with observer.busy(f"loading the {name}"):
            mixtures = Mixtures(
                pair.instruct.folder,
                pair.thinking.folder,
                lams,
                donor=pair.donor_side,
                device=device,
                trust_remote_code=computing.trust_remote_code,
                shuffle=shuffle,
            )
        with observer.counting(f"reading texts, {name}", len(kept)) as advance, naming(f"the {name}"):
            return measured(mixtures, kept, advance), mixtures.rounded

    real, rounded = read(None)
    control, _ = read(computing.seed)
    found = study(lams, real, control, rounded=rounded, seed=computing.seed)
    total = sum(tensor.instruct.nbytes + tensor.thinking.nbytes for tensor in pair.tensors)
    with observer.counting("weight differences", total) as advance:
        weights = relative_difference(pair, progress=advance)
    left_out = len({text.question for text in texts}) - found.questions
    setup = {
        "mull": __version__,
        "instruct": pair.instruct.name,
        "thinking": pair.thinking.name,
        "fingerprints": ", ".join(fingerprint(side) for side in (pair.instruct, pair.thinking)),
        "donor": pair.donor_side,
        "questions": counted(found.questions, "question")
        + (f" ({left_out:,} left out: a response of fewer than 4 tokens)" if left_out else ""),
        "responses": f"{source}; at most {computing.max_tokens:,} tokens of each are read",
        "tokens": ", ".join(f"{found.tokens[style]:,} of {style.title()}'s responses" for style in STYLES),
        "λ": ", ".join(f"{lam:g}" for lam in lams),
        "weights": "rounded as merged checkpoints" if rounded else "Θ(λ) without rounding, a λ per row of the batch",
        "control": f"rows of Thinking's weights in random order, seed {computing.seed}",
        "device": str(device),
    }
    return Pilot(title=_title(pair), study=found, weights=weights, frontier=shape, metrics=of_run, setup=setup)


def _title(pair: Pair) -> str:
    """A hub id as it is, a folder by its own name."""
    names = [side.name for side in (pair.instruct, pair.thinking)]
    return " → ".join(name if name.count("/") == 1 else Path(name).name for name in names)


def _check_pair(run: RunStore, pair: Pair) -> None:
    """Refuse a run of other checkpoints; one that servers answered does not say which they were."""
    for side, checkpoint in (("instruct", pair.instruct), ("thinking", pair.thinking)):
        recorded = run.plan.get(side)
        if recorded is not None and recorded != fingerprint(checkpoint):
            raise MullError(
                f"the run {run.folder} was sampled from another {side.title()} checkpoint than {checkpoint.name}",
                f"give the one of the run, {run.provenance.get(side, '?')}, or leave --run out",
            )


def _prompts(pair: Pair, run: RunStore | None, computing: Computing) -> Prompts:
    if run is None:
        return Prompts(pair.donor.folder, computing.trust_remote_code)
    return Prompts(pair.donor.folder, computing.trust_remote_code, tags_of(run.plan), run.plan.get("date"))


def _recorded(run: RunStore, prompts: Prompts, questions: int, max_tokens: int) -> list[Text]:
    """The first samples at λ = 0 and λ = 1 of the run's first questions that have both."""
    texts: dict[tuple[str, str], Any] = {}
    for sample in run.each():
        if sample.index == 0 and sample.lam in (0.0, 1.0):
            texts[sample.question, STYLES[int(sample.lam)]] = sample
    both = [name for name in run.questions if all((name, style) in texts for style in STYLES)][:questions]
    if len(both) < 2:
        raise MullError(
            f"the run {run.folder} has fewer than two questions with responses at both λ = 0 and λ = 1",
            "sweep both ends, or give --prompts",
        )
    asked = rendered(prompts, {name: _conversation(run, name) for name in both})
    return [
        encoded(
            prompts,
            name,
            style,
            asked[name],
            texts[name, style].text,
            finished=texts[name, style].finish == "stop",
            max_tokens=max_tokens,
        )
        for name in both
        for style in STYLES
    ]


def _conversation(run: RunStore, name: str) -> Messages:
    """The question as the run's benchmark asked it."""
    about = run.questions[name]
    record = benchmark_of(run.plan, about)
    question = Question(id=name, text=about["text"], gold=about["gold"])
    return conversation(question, record.get("prompt"), record.get("system"))
