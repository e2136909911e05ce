"""The reasoning parser reads what the local server reads, whole and in any pieces."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from mull.checkpoints.pair import Pair
from mull.engines.base import Request, Sampling
from mull.engines.local.opening import prompts_of
from mull.tiny import checkpoint_folder

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(600)]
ROOT = Path(__file__).parents[3]
TEXTS = (
    "Okay, let me think.\n03+4=07\n</think>\n\nThe answer is \\boxed{7}.",
    "03+4=07\nThe answer is \\boxed{7}.",
    "03+4=07\n</think>",
    "</think>\n\nThe answer is \\boxed{7}.",
    "One </think> two <think> three </think> four",
    "It writes `</think>` at its end. So </think>\n\n  7  \n",
    "<think>\n03+4=07\n</think>\n7",
    "\n\n7",
)


def cases():
    lots = random.Random(0)
    for text in TEXTS:
        for thought in ("sure", "hold", "direct", "plain"):
            for limit in (1, 1000):  # cut off, or not
                sizes = [lots.choice((1, 1, 1, 2, 5)) for _ in range(80)]
                mark = {"thought": thought, "tools": False}
                yield {"text": text, "mark": mark, "limit": limit, "sizes": sizes, "ends": limit > 1}


def local(prompts, prompt, case):
    """Thought and answer as the local server tells them: whole, in pieces, and how many tokens are thought."""
    ids = prompts.encode(case["text"])
    reading = case["mark"]["thought"]
    request = Request(id="", prompt_ids=prompt, seed=0, sampling=Sampling())
    reader = prompts.reader(request, hold=reading == "hold", direct=reading in ("direct", "plain"))
    pieces = [piece for token in ids for piece in reader.push(token)]
    parted = reader.finish(prompts.text(ids), finished=case["ends"])
    split, told = parted.split, {"thought": "", "answer": ""}
    for piece in (*pieces, *parted.pieces):
        told[piece.kind] += piece.text
    if parted.corrected and split.answer.startswith(told["answer"]):
        told["answer"] = split.answer
    count = prompts.reasoning_tokens(ids, case["text"], split)
    return [split.thought, split.answer], list(told.values()), count


def test_thought_and_answer_are_those_of_the_local_server():
    given = list(cases())
    content = json.dumps({"folder": str(checkpoint_folder("thinking")), "cases": given})
    python = os.environ.get("MULL_VLLM_PYTHON", sys.executable)
    path = os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])
    program = str(Path(__file__).with_name("parsing.py"))
    environment = {**os.environ, "PYTHONPATH": path, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([python, program], input=content, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    prompts = prompts_of(Pair.built_in())
    prompt = prompts.render([{"role": "user", "content": "What is 3 + 4?"}])
    for case, found in zip(given, json.loads(done.stdout.splitlines()[-1]), strict=True):
        whole, told, count = local(prompts, prompt, case)
        assert found["whole"] == whole, case
        assert found["count"] == count, case
        plain = case["mark"]["thought"] == "plain"
        assert found["told"] == (["", case["text"]] if plain else told), case
