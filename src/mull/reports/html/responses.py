"""Which responses a report page carries for reading side by side, and how they are put into it safely."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

from mull.analysis.records import Sample
from mull.reports.format import setting_name
from mull.reports.html.render import encode
from mull.reports.results import Results
from mull.runs.plan import tags_of
from mull.runs.store import RunStore
from mull.thinking import ThinkTags, split_thinking

MOST_BYTES = 8_000_000
"""Of embedded JSON, about."""
LONGEST = 24_000
"""Characters of one thought or answer; of longer ones the middle is left out."""


class Embedded(NamedTuple):
    """The data of the page's browser, and what it holds in words."""

    data: dict[str, Any]
    words: str


def embed(results: Results, most_bytes: int = MOST_BYTES) -> Embedded:
    """Choose responses that fit in `most_bytes`.

    A question and sample index comes with all settings or not at all, so that everything shown can be compared.
    First every question gets its first sample, then its second, and so on; where not even the first ones fit, fewer
    questions of every difficulty are shown. Only the texts of those that come into question are read.
    """
    settings = {m.setting: i for i, m in enumerate(results.metrics)}
    record = results.plan.get("benchmark", {})
    if any(each.get("private") for each in (record, *record.get("parts", {}).values())):
        names = [setting_name(m) for m in results.metrics]
        data = {"settings": names, "defaults": _defaults(results), "questions": [], "responses": []}
        return Embedded(data, "This benchmark's questions are not to be published: the page holds no responses.")
    with RunStore.open(results.folder) as store:
        number, rows, rounds, cut = _chosen(results, settings, partial(_text, store), most_bytes)
    questions = [{"id": name, **_about(results, name)} for name in number]
    listed = sorted(range(len(questions)), key=lambda i: questions[i]["id"])
    place = {old: new for new, old in enumerate(listed)}
    for row in rows:
        row[0] = place[row[0]]
    data = {
        "settings": [setting_name(m) for m in results.metrics],
        "defaults": _defaults(results),
        "questions": [questions[i] for i in listed],
        "responses": rows,
    }
    return Embedded(data, _words(results, len(rows), len(questions), rounds, cut))


class _Chosen(NamedTuple):
    number: dict[str, int]
    """Question → its number in the rows."""
    rows: list[list[Any]]
    rounds: int
    """Samples per question."""
    cut: int
    """Responses whose middle is left out."""


def _chosen(results: Results, settings: dict[str, int], read: Callable[[Sample], str], most_bytes: int) -> _Chosen:
    tags = tags_of(results.plan)
    groups: dict[tuple[int, str], list[Sample]] = {}
    for sample in results.samples:
        groups.setdefault((sample.index, sample.question), []).append(sample)
    order = _interleaved(results)
    number: dict[str, int] = {}
    rows: list[list[Any]] = []
    used, cut, rounds = 0, 0, 0
    for index in sorted({index for index, _ in groups}):
        wanted = [question for question in order if (index, question) in groups]
        if rounds and len(number) < len(order):
            wanted = [question for question in wanted if question in number]
        added: list[list[Any]] = []
        cut_here = 0
        for question in wanted:
            found = [_row(sample, read(sample), settings, tags) for sample in groups[index, question]]
            size = sum(len(encode(row)) for row, _ in found)
            if used + size > most_bytes and (rounds or number):
                break
            used += size
            number.setdefault(question, len(number))
            added += [[number[question], *row] for row, _ in found]
            cut_here += sum(was_cut for _, was_cut in found)
        else:
            rows, rounds, cut = rows + added, rounds + 1, cut + cut_here
            continue
        if not rounds:  # the first round alone is too much: fewer questions
            rows, rounds, cut = added, 1, cut_here
        break
    return _Chosen(number, rows, rounds, cut)


def _text(store: RunStore, sample: Sample) -> str:
    return sample.text or store.text((sample.setting, sample.question, sample.index))


def _row(sample: Sample, text: str, settings: dict[str, int], tags: Sequence[ThinkTags]) -> tuple[list[Any], bool]:
    split = split_thinking(text, finished=sample.finish == "stop", tags=tags)
    thought, answer = _shortened(split.thought), _shortened(split.answer)
    row = [
        settings[sample.setting],
        sample.index,
        thought,
        answer,
        sample.thinking,
        sample.tokens,
        sample.finish,
        int(sample.correct),
        sample.answer,
    ]
    return row, (thought, answer) != (split.thought, split.answer)


def _shortened(text: str) -> str:
    if len(text) <= LONGEST:
        return text
    head, tail = 2 * LONGEST // 3, LONGEST // 3
    return f"{text[:head]}\n\n[… {len(text) - head - tail:,} characters left out …]\n\n{text[-tail:]}"


def _about(results: Results, question: str) -> dict[str, str]:
    known = results.questions.get(question, {})
    return {name: known.get(name, "") for name in ("text", "gold", "stratum")}


def _interleaved(results: Results) -> list[str]:
    """The questions, one of each stratum in turn."""
    strata: dict[str, list[str]] = {}
    for question, about in results.questions.items():
        strata.setdefault(about.get("stratum", ""), []).append(question)
    queues = list(strata.values())
    longest = max(map(len, queues), default=0)
    return [queue[i] for i in range(longest) for queue in queues if i < len(queue)]


def _defaults(results: Results) -> list[int]:
    """The lowest λ, the one nearest the middle of the transition, the most accurate, and the highest."""
    sweep = [i for i, m in enumerate(results.metrics) if m.lam is not None]
    best = results.metrics.index(results.best)
    if not sweep:
        return sorted({best, *range(min(3, len(results.metrics)))})
    fit = results.stages.fit if results.stages else None
    middle = fit.midpoint if fit else 0.5
    nearest = min(sweep, key=lambda i: abs((results.metrics[i].lam or 0.0) - middle))
    return sorted({sweep[0], nearest, best, sweep[-1]})


def _words(results: Results, responses: int, questions: int, rounds: int, cut: int) -> str:
    total, all_questions = len(results.samples), len(results.questions)
    text = "The same question and sample, answered at several λ: thought and answer as the model wrote them."
    if responses == total:
        text += f" All {total:,} responses are here."
    else:
        each = "first sample" if rounds == 1 else f"first {rounds} samples"
        text += (
            f" To keep the page small it holds {responses:,} of {total:,} responses: the {each} of "
            f"{questions:,} of {all_questions:,} questions. The run's store holds all of them."
        )
    if cut:
        text += f" The middle of {cut:,} very long responses is left out, and marked so."
    return text
