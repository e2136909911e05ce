"""What counts as a thought in a run, from the pair's files to the grades, and the day that its template is told."""

from __future__ import annotations

import io
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from mull.benchmarks import load_benchmark
from mull.checkpoints.pair import Pair
from mull.cli.options.plans import SamplingOptions
from mull.cli.rendering.summary import print_summary, summary
from mull.engines.base import Completion, Sampling
from mull.engines.local.prompts import Prompts
from mull.errors import MullError
from mull.merging.coefficients import Coefficients
from mull.reports.html.content import Paragraph
from mull.reports.html.responses import embed
from mull.reports.html.sections import findings
from mull.reports.results import results
from mull.runs.plan import SweepPlan, tags_of
from mull.runs.regrade import regrade
from mull.runs.run import grade
from mull.runs.sessions import session
from mull.runs.sessions.loading import LocalLoader
from mull.runs.settings import Setting
from mull.runs.store import RunStore
from mull.thinking import KNOWN, PLAIN, ThinkTags, split_thinking
from mull.tiny import checkpoint_folder

BRACKETS = ThinkTags("[THINK]", "[/THINK]")


def pair_with(folder: Path, tags: ThinkTags, *, special: bool, template: str = "") -> Pair:
    """The built-in pair, with other delimiters and a beginning of its template."""
    ends = []
    for side in ("instruct", "thinking"):
        end = shutil.copytree(checkpoint_folder(side), folder / side)
        for name in ("tokenizer.json", "tokenizer_config.json"):
            text = (end / name).read_text()
            for old, new in zip(PLAIN[0], tags, strict=True):
                text = text.replace(old, new)
            content = json.loads(text)
            for token in content.get("added_tokens", []):
                token["special"] = token["special"] or (special and token["content"] in tags)
            if "chat_template" in content:
                content["chat_template"] = template + content["chat_template"]
            (end / name).write_text(json.dumps(content))
        ends.append(str(end))
    return Pair.open(*ends)


def plan_of(pair: Pair | None, lam: float = 1.0, limit: int = 8, **options: Any) -> SweepPlan:
    settings = [Setting.of(Coefficients.scalar(lam))]
    return SweepPlan(pair, settings, load_benchmark("tiny", questions=3), 1, Sampling(max_tokens=limit), **options)


def test_a_plan_names_the_delimiters_unless_they_are_the_usual_ones(tmp_path: Path) -> None:
    plain = plan_of(Pair.open(str(checkpoint_folder("instruct")), str(checkpoint_folder("thinking"))))
    assert plain.tags == PLAIN and not {"think_tags", "date"} & plain.record.keys()
    assert plan_of(pair_with(tmp_path / "a", PLAIN[0], special=True)).record.keys() == plain.record.keys()
    brackets = plan_of(pair_with(tmp_path / "b", BRACKETS, special=True))
    assert brackets.record["think_tags"] == [["[THINK]", "[/THINK]"]] and tags_of(brackets.record) == (BRACKETS,)
    assert replace(brackets, think_tags=PLAIN).tags == PLAIN
    assert plan_of(None).tags == KNOWN
    assert plan_of(None, think_tags=[BRACKETS]).tags == (BRACKETS, *PLAIN), "in which a server's parts are joined"


@pytest.mark.parametrize("tags", [PLAIN[0], BRACKETS], ids=str)
def test_thoughts_between_special_tokens_are_told_from_answers(tags: ThinkTags, tmp_path: Path) -> None:
    plan = plan_of(pair_with(tmp_path, tags, special=True), limit=768)
    session.sweep(plan, tmp_path / "run", LocalLoader(device="cpu"))
    with RunStore.open(tmp_path / "run") as store:
        samples = store.samples()
        found = results(store)
    with RunStore.amend(tmp_path / "run") as store:
        grading = regrade(store)
    with RunStore.open(tmp_path / "run", grading=grading) as store:
        assert [s.correct for s in store.samples()] == [s.correct for s in samples]
    answers = [split_thinking(sample.text, finished=True).answer for sample in samples]
    for sample in samples:
        assert sample.thinking == "closed" and tags.close in sample.text
        assert sample.thought_tokens and 0 < sample.thought_tokens < sample.tokens
        assert "<|im_end|>" not in sample.text
    assert any(s.correct for s in samples)
    rows = embed(found).data["responses"]
    assert all(tags.close not in row[3] + row[4] and row[3] and row[4] for row in rows), "on the page, too"
    assert sorted(row[4] for row in rows) == sorted(answers)


def test_a_run_goes_on_with_its_own_delimiters(tmp_path: Path) -> None:
    plan = plan_of(pair_with(tmp_path, BRACKETS, special=True), think_tags=PLAIN)
    session.sweep(plan, tmp_path / "run", LocalLoader(device="cpu"))
    more = replace(plan, think_tags=None, k=2)
    assert len(session.sweep(more, tmp_path / "run", LocalLoader(device="cpu"))) == 6
    with pytest.raises(MullError, match=r"think_tags: <think> … </think> → \[THINK\] … \[/THINK\]"):
        session.sweep(replace(more, think_tags=[BRACKETS]), tmp_path / "run", LocalLoader(device="cpu"))


def test_delimiters_from_the_command_line() -> None:
    assert SamplingOptions().tags() is None
    assert SamplingOptions(think_tags=["<a>,</a>", "b: , :b"]).tags() == [
        ThinkTags("<a>", "</a>"),
        ThinkTags("b:", ":b"),
    ]
    for wrong in ("<a>", "<a>,", "a,b,c", "a,a", ""):
        with pytest.raises(MullError, match="no pair of delimiters"):
            SamplingOptions(think_tags=[wrong]).tags()


def test_the_template_is_told_the_day_of_the_plan(tmp_path: Path) -> None:
    pair = pair_with(tmp_path, PLAIN[0], special=False, template="{{ strftime_now('%Y-%m-%d %H:%M:%S') }}")
    plan = plan_of(pair, date="2025-03-04")
    assert plan.record["date"] == "2025-03-04"
    prompts = Prompts(pair.donor.folder, False, plan.tags, plan.template_date)
    ids = prompts.render([{"role": "user", "content": "1+1"}])
    assert prompts.tokenizer.decode(ids).startswith("2025-03-04 00:00:00<|im_start|>")
    session.sweep(plan, tmp_path / "run", LocalLoader(device="cpu"))
    another_day = plan_of(pair, lam=0.5)
    assert another_day.record["date"] != "2025-03-04"
    session.sweep(another_day, tmp_path / "run", LocalLoader(device="cpu"))
    with RunStore.open(tmp_path / "run") as store:
        assert store.plan["date"] == "2025-03-04" and store.count() == 6
    with (
        pytest.raises(MullError, match="date: 2025-03-04 → 2025-03-05"),
        RunStore.record(tmp_path / "run", replace(plan, date="2025-03-05"), {}),
    ):
        pass


def test_a_thinking_end_that_does_not_think_is_warned_of(tmp_path: Path) -> None:
    plan = replace(plan_of(None), settings=[Setting.of(Coefficients.scalar(lam)) for lam in (0.0, 1.0)])
    with RunStore.record(tmp_path / "run", plan, {}) as store:
        for setting in plan.settings:
            for question in plan.benchmark.questions():
                completion = Completion(
                    id="", token_ids=(1,), logprobs=(), text="<<<hm>>>7", finish="stop", seconds=0.1
                )
                store.add(grade(plan.benchmark, question, completion, setting, 0, 0, plan.tags))
        found = results(store)
    console = Console(file=io.StringIO(), width=200)
    print_summary(found.samples, console)
    page = "\n".join(part.text for part in findings(found, [])[0].parts if isinstance(part, Paragraph))
    said = summary(found.samples)["unthinking_end"]
    for text in (console.file.getvalue(), page, said):  # type: ignore[attr-defined]
        assert "Think #R is 0 % at λ = 1" in text and "--think-tags" in text
