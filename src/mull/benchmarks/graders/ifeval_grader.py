"""The `ifeval` grader: verifiable instructions, checked by lm-eval's code in a process that can be killed."""

from __future__ import annotations

import json

from mull.benchmarks.base import Grade, Question
from mull.benchmarks.packages import need, versions
from mull.errors import MullError
from mull.worker import Unanswered, Worker

PACKAGES = ("lm_eval", "nltk", "langdetect")


class IFEvalGrader:
    """Instruction following (Zhou et al. 2023, arXiv 2311.07911) by `lm_eval.tasks.ifeval`.

    Correct is prompt-level strict: all instructions of the prompt were followed. The scores are `prompt_loose` (0 or
    1) and, for the instruction level, the counts `instructions`, `followed` (strict) and `followed_loose`. The gold
    of a question is JSON with `key`, `instruction_id_list` and `kwargs`. The answer is text like "2 of 3 instructions",
    so that a majority vote over answers is meaningless.

    Raises:
        MullError: lm-eval or NLTK's punkt_tab is not installed.
    """

    name = "ifeval"

    def __init__(self, seconds: float = 60.0) -> None:
        need("lm_eval", "langdetect", "immutabledict", "nltk", what="grading IFEval")
        self._worker = Worker("mull.benchmarks.graders.ifeval_worker", seconds)
        if self._worker.start().get("missing"):
            raise MullError(
                "IFEval counts sentences with NLTK's punkt_tab, which is not installed",
                "`python -m nltk.downloader punkt_tab`, or set NLTK_DATA to a folder with tokenizers/punkt_tab",
            )

    def grade(self, question: Question, answer: str) -> Grade:
        item = json.loads(question.gold)
        count = len(item["instruction_id_list"])
        try:
            found = self._worker.ask({**item, "prompt": question.text, "response": answer})
        except Unanswered:
            return Grade("", False, {"ungraded": 1.0, "prompt_loose": 0.0, "instructions": float(count)})
        followed = sum(found["inst_level_strict_acc"])
        scores = {
            "prompt_loose": float(found["prompt_level_loose_acc"]),
            "instructions": float(count),
            "followed": float(followed),
            "followed_loose": float(sum(found["inst_level_loose_acc"])),
        }
        return Grade(f"{followed} of {count} instructions", bool(found["prompt_level_strict_acc"]), scores)

    def describe(self) -> dict[str, str]:
        return {"name": self.name, "version": "1", **versions(PACKAGES)}
