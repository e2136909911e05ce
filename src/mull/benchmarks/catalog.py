"""The benchmarks with a data file: source of the file, how to read a row, prompt, token limit and grader.

To add one, write a `Spec`. Prompts and limits are those of Wu et al. 2025 (arXiv 2510.10977) where the paper has them
(AIME, IFEval, GPQA); the other mathematical sets use AIME's prompt. No data is shipped.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass

from mull.benchmarks.base import Question
from mull.benchmarks.cells import BadRow, cell, column, only_column, options, with_options
from mull.benchmarks.graders.boxed import integer
from mull.benchmarks.hub import DatasetFiles
from mull.benchmarks.rows import DataRow

BOXED = "{question}\nPlease reason step by step, and put your final answer within \\boxed{}."
CHOICE = (
    "Answer the following multiple choice question. The last line of your response should be of the following format: "
    "'ANSWER: $LETTER' (without quotes) where LETTER is one of ABCD. Think step by step before answering.\n\n{question}"
)
LETTERS = "one of ABCD"
"""What a prompt says where a question has four options."""
PLAIN = "{question}"
PROMPTS = {"math": BOXED, "integer": BOXED, "exact": BOXED, "letter": CHOICE, "letter-robust": CHOICE, "ifeval": PLAIN}
"""Grader → prompt, for users' own files."""

CYCLE = ("ABCD", "BCDA", "CDAB", "DABC")
"""Orders of GPQA's options: question n, counted from 1, has the order `CYCLE[n mod 4]`, as in OpenCompass."""

MATH_LIMIT = 32768
PAPER_LIMIT = 81920


ReadRow = Callable[[DataRow, int], Question]
"""Makes a question of a row and its number, from 0."""


@dataclass(frozen=True, kw_only=True)
class Spec:
    """One benchmark."""

    title: str
    questions: int
    """Number of questions of the published set."""
    read: ReadRow
    prompt: str = BOXED
    """`{question}` stands for the question's text."""
    system: str | None = None
    grader: str = "math"
    max_tokens: int = MATH_LIMIT
    source: DatasetFiles
    order: str = ""
    """How the options of multiple choice are ordered; empty for other benchmarks."""


_QUESTION = ("question", "problem", "Question", "Problem", "prompt")
_ANSWER = ("expected_answer", "answer", "Answer", "gold")


def _name(row: DataRow, prefix: str, number: int, name: str) -> str:
    """The id of a published set's row; numbers, which its copies give differently, count for nothing."""
    given = row.get(name)
    return given.strip() if isinstance(given, str) and given.strip() else f"{prefix}-{number:04d}"


def own_row(row: DataRow, number: int, *, letters: bool = False) -> Question:
    """A question of a row of a user's file: question and answer, and optionally id, stratum and options.

    `letters`: the answer is a letter, and columns A, B, C … are options, too.
    """
    text, gold = only_column(row, *_QUESTION), only_column(row, *_ANSWER)
    if given := options(row, bare=letters):
        text = with_options(text, given)
    return Question(id=cell(row, "id") or f"q-{number:04d}", text=text, gold=gold, stratum=cell(row, "stratum"))


def _contest(prefix: str) -> ReadRow:
    """A reader for contests whose answers are integers; a degree sign after the integer is dropped."""

    def read(row: DataRow, number: int) -> Question:
        gold = re.sub(r"\^?\{?\\circ\}?$|°$", "", column(row, *_ANSWER).strip("$ "))
        value = integer(gold)
        if value is None:
            raise BadRow("the answer is no integer")
        return Question(id=_name(row, prefix, number, "id"), text=column(row, *_QUESTION), gold=str(value))

    return read


def _math500(row: DataRow, number: int) -> Question:
    level = row.get("level")
    return Question(
        id=_name(row, "math500", number, "unique_id"),
        text=column(row, "problem", "question"),
        gold=column(row, "answer"),
        stratum=f"level {str(level).removeprefix('Level ')}" if level else "",
    )


def _gsm8k(row: DataRow, number: int) -> Question:
    gold = column(row, "answer").rpartition("####")[2].strip().replace(",", "")
    return Question(id=f"gsm8k-{number:04d}", text=column(row, "question"), gold=gold)


def _ifeval(row: DataRow, number: int) -> Question:
    try:
        kwargs = [{k: v for k, v in each.items() if v is not None} for each in row["kwargs"]]
        gold = {"key": int(row["key"]), "instruction_id_list": list(row["instruction_id_list"]), "kwargs": kwargs}
    except (KeyError, TypeError, ValueError, AttributeError):
        raise BadRow("no 'key', 'instruction_id_list' or 'kwargs' of IFEval") from None
    if len(gold["instruction_id_list"]) != len(kwargs) or not kwargs:
        raise BadRow("'instruction_id_list' and 'kwargs' differ in length")
    # `column` checks that there is a prompt. The question keeps its spaces, because instructions to repeat the prompt
    # compare the response with the exact text.
    column(row, "prompt")
    return Question(id=f"ifeval-{gold['key']}", text=row["prompt"], gold=json.dumps(gold))


def _gpqa(row: DataRow, number: int) -> Question:
    options = [column(row, name) for name in ("Correct Answer", *(f"Incorrect Answer {i}" for i in (1, 2, 3)))]
    order = CYCLE[(number + 1) % 4]
    lines = [f"{letter}) {options['ABCD'.index(which)]}" for letter, which in zip("ABCD", order, strict=True)]
    text = column(row, "Question") + "\n\n" + "\n".join(lines)
    stratum = str(row.get("High-level domain") or "").strip()
    return Question(id=f"gpqa-{number:04d}", text=text, gold="ABCD"[order.index("A")], stratum=stratum)


SPECS: dict[str, Spec] = {
    "aime24": Spec(
        title="AIME 2024",
        questions=30,
        read=_contest("aime24"),
        max_tokens=PAPER_LIMIT,
        source=DatasetFiles(
            repo="HuggingFaceH4/aime_2024",
            revision="2fe88a2f1091d5048c0f36abc874fb997b3dd99a",
            files=("data/train-00000-of-00001.parquet",),
        ),
    ),
    "aime25": Spec(
        title="AIME 2025",
        questions=30,
        read=_contest("aime25"),
        max_tokens=PAPER_LIMIT,
        source=DatasetFiles(
            repo="opencompass/AIME2025",
            revision="a6ad95f611d72cf628a80b58bd0432ef6638f958",
            files=("aime2025-I.jsonl", "aime2025-II.jsonl"),
        ),
    ),
    "amc23": Spec(
        title="AMC 2023",
        questions=40,
        read=_contest("amc23"),
        source=DatasetFiles(
            repo="math-ai/amc23",
            revision="80815d37005feb82cd7f8fbc6901d5d3eff43057",
            files=("test-00000-of-00001.parquet",),
        ),
    ),
    "math500": Spec(
        title="MATH-500",
        questions=500,
        read=_math500,
        source=DatasetFiles(
            repo="HuggingFaceH4/MATH-500",
            revision="6e4ed1a2a79af7d8630a6b768ec859cb5af4d3be",
            files=("test.jsonl",),
        ),
    ),
    "gsm8k": Spec(
        title="GSM8K, test split",
        questions=1319,
        read=_gsm8k,
        source=DatasetFiles(
            repo="openai/gsm8k",
            revision="740312add88f781978c0658806c59bc2815b9866",
            files=("main/test-00000-of-00001.parquet",),
        ),
    ),
    "ifeval": Spec(
        title="IFEval",
        questions=541,
        read=_ifeval,
        prompt=PLAIN,
        grader="ifeval",
        max_tokens=PAPER_LIMIT,
        source=DatasetFiles(
            repo="google/IFEval",
            revision="966cd89545d6b6acfd7638bc708b98261ca58e84",
            files=("ifeval_input_data.jsonl",),
        ),
    ),
    "gpqa": Spec(
        title="GPQA-Diamond",
        questions=198,
        read=_gpqa,
        prompt=CHOICE,
        grader="letter",
        max_tokens=PAPER_LIMIT,
        order="cyclic from BCDA: " + ", ".join(CYCLE),
        source=DatasetFiles(
            repo="Idavidrein/gpqa",
            revision="633f5ee89ab8ad4522a9f850766b73f62147ffdd",
            files=("gpqa_diamond.csv",),
            private=True,
        ),
    ),
}
