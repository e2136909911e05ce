"""The process of the `ifeval` grader: lm-eval's checker with fixed seeds.

A request is an item of IFEval with a `response`; the answer says which instructions were followed. The first line of
output says whether NLTK's sentence model is missing. Started by `mull.worker`.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from mull.worker import serve


def begin() -> tuple[dict[str, Any], Callable[[dict[str, Any]], dict[str, Any]]]:
    """Import the checker, which tries to download punkt_tab if it is missing, and seed the language detector."""
    import langdetect  # pyright: ignore[reportMissingImports]
    import nltk  # pyright: ignore[reportMissingImports]
    from lm_eval.tasks.ifeval.utils import process_results  # pyright: ignore[reportMissingImports]

    langdetect.DetectorFactory.seed = 0
    try:
        nltk.data.find("tokenizers/punkt_tab/english/")
    except (LookupError, OSError):
        return {"missing": "punkt_tab"}, lambda request: {"error": "no punkt_tab"}

    def handle(request: dict[str, Any]) -> dict[str, Any]:
        random.seed(request["key"])  # the checker draws missing arguments at random
        return process_results(request, [request["response"]])

    return {}, handle


if __name__ == "__main__":
    serve(begin)
