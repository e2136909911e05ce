"""The process that runs a user's grader: `python -m … SECONDS FILE FUNCTION SHA256`."""

from __future__ import annotations

import hashlib
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from mull.benchmarks.base import Grade
from mull.worker import serve

Handle = Callable[[dict[str, Any]], dict[str, Any]]


def begin() -> tuple[dict[str, Any], Handle]:
    """Run the file; the first line says why its function cannot be asked, if so."""
    path, name, digest = Path(sys.argv[2]), sys.argv[3], sys.argv[4]

    def unasked(request: dict[str, Any]) -> dict[str, Any]:
        return {"error": "it could not be started"}

    try:
        source = path.read_bytes()
        if hashlib.sha256(source).hexdigest() != digest:
            return {"failed": "it has changed since it was read"}, unasked
        module = ModuleType(path.stem)
        module.__file__ = str(path)
        sys.modules[path.stem] = module  # dataclasses look their module up there
        sys.path.insert(0, str(path.parent))
        exec(compile(source, str(path), "exec"), module.__dict__)
    except (Exception, SystemExit) as error:
        return {"failed": _words(error, path)}, unasked
    function = getattr(module, name, None)
    if not callable(function):
        found = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        return {"functions": found}, unasked
    return {}, lambda request: _ask(function, path, request)


def _ask(function: Callable[[str, str], Any], path: Path, request: dict[str, Any]) -> dict[str, Any]:
    try:
        found = function(request["answer"], request["gold"])
    except (Exception, SystemExit) as error:
        return {"error": _words(error, path)}
    if isinstance(found, bool):
        return {"correct": found, "answer": None, "scores": {}}
    if isinstance(found, Grade) and isinstance(found.correct, bool) and isinstance(found.answer, str):
        return {"correct": found.correct, "answer": found.answer, "scores": dict(found.scores)}
    return {"returned": f"{type(found).__name__} {found!r}"[:100]}


def _words(error: BaseException, path: Path) -> str:
    """The error with the last line of the file that it went through."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    number = error.lineno if isinstance(error, SyntaxError) else lines[-1] if lines else None
    said = error.msg if isinstance(error, SyntaxError) else str(error)
    where = f" (line {number})" if number else ""
    return f"{type(error).__name__}: {' '.join(said.split())[:300]}{where}"


if __name__ == "__main__":
    serve(begin)
