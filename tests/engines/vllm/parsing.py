"""Has vLLM's parser read responses, whole and in pieces; run by a Python that has vLLM (see `test_reasoning.py`).

Standard input: the folder with the tokenizer, and cases: text, mark, most tokens, sizes of the pieces in tokens, and
whether the text ends by itself. Standard output: thought and answer of each, whole and joined from its pieces.
"""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace
from typing import Any

from transformers import AutoTokenizer
from vllm.parser.abstract_parser import DelegatingParser

from mull.engines.vllm.marks import MARK
from mull.engines.vllm.reasoning import MullReasoning


class Parser(DelegatingParser):
    reasoning_parser_cls = MullReasoning


def read(tokenizer: Any, case: dict[str, Any]) -> dict[str, Any]:
    messages = [{"role": "user", "content": "What is 3 + 4?"}]
    prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    ids = tokenizer.encode(case["text"], add_special_tokens=False) + ([tokenizer.eos_token_id] if case["ends"] else [])
    request: Any = SimpleNamespace(
        max_completion_tokens=case["limit"], max_tokens=None, include_reasoning=True, tool_choice="none", tools=None
    )

    def parser() -> Any:
        return Parser(tokenizer, chat_template_kwargs={MARK: case["mark"]})

    whole = parser()
    whole.is_reasoning_end(prompt)
    thought, answer, _ = whole.parse(case["text"], request, model_output_token_ids=ids)
    count = whole.count_reasoning_tokens(ids)
    pieces, told, place, text = parser(), {"reasoning": "", "content": ""}, 0, ""
    for size in [*case["sizes"], len(ids)]:
        part = ids[place : place + size]
        place += len(part)
        if not part:
            break
        so_far = tokenizer.decode([i for i in ids[:place] if i != tokenizer.eos_token_id])
        finished = place == len(ids)
        found = pieces.parse_delta(so_far[len(text) :], part, request, prompt, finished=finished)
        text = so_far
        for kind in told:
            told[kind] += getattr(found, kind, None) or ""
    return {"whole": [thought or "", answer or ""], "told": list(told.values()), "count": count}


if __name__ == "__main__":
    given = json.load(sys.stdin)
    found = AutoTokenizer.from_pretrained(given["folder"])
    print(json.dumps([read(found, case) for case in given["cases"]]))
