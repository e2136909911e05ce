"""Prompts of the user's own, read from a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mull.encodings import decoded
from mull.errors import MullError

Messages = list[dict[str, str]]


def read_prompts(path: Path) -> list[Messages]:
    """Conversations from a file: JSONL with `messages`, `prompt` or `question` per line; else one user message a line.

    Raises:
        MullError: the file cannot be read or is empty, or a line of a .jsonl file has none of these keys.
    """
    try:
        lines = [line for line in decoded(path, path.read_bytes()).splitlines() if line.strip()]
    except OSError as error:
        what = f"cannot read the prompts {path}: {error.strerror}"
        raise MullError(what, "give a text file, one prompt per line") from None
    if not lines:
        raise MullError(f"{path} holds no prompt", "write one per line")
    if path.suffix != ".jsonl":
        return [[{"role": "user", "content": line}] for line in lines]
    return [_conversation(line, f"line {i + 1} of {path}") for i, line in enumerate(lines)]


def _conversation(line: str, where: str) -> Messages:
    try:
        entry: Any = json.loads(line)
    except ValueError as error:
        raise MullError(f"{where} is no JSON: {error}", "write one object per line") from None
    if isinstance(entry, dict):
        if isinstance(entry.get("messages"), list):
            return entry["messages"]
        text = entry.get("prompt", entry.get("question"))
        if isinstance(text, str):
            return [{"role": "user", "content": text}]
    raise MullError(f"{where} names no prompt", 'give it a key "prompt", "question" or "messages"')
