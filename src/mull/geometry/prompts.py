"""Prompts of the user's own, read from a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mull.encodings import decoded
from mull.errors import MullError

Messages = list[dict[str, str]]

LARGEST = 64 << 20
"""Bytes of a file of prompts; a larger one is more likely a wrong file."""
_JSON_LINES = (".jsonl", ".ndjson")


def read_prompts(path: Path) -> list[Messages]:
    """Conversations from a file: JSONL with `messages`, `prompt` or `question` per line; else one user message a line.

    Raises:
        MullError: the file cannot be read, is empty or larger than `LARGEST`, or a line of a .jsonl file has none of
            these keys or a wrong value there.
    """
    try:
        if path.stat().st_size > LARGEST:
            what = f"the prompts {path} are larger than {LARGEST >> 20} MB"
            raise MullError(what, "give a text file, one prompt per line")
        content = path.read_bytes()
    except OSError as error:
        what = f"cannot read the prompts {path}: {error.strerror}"
        raise MullError(what, "give a text file, one prompt per line") from None
    # Not splitlines: JSON strings may hold U+2028 and other characters at which it splits.
    lines = [(i, line.strip()) for i, line in enumerate(decoded(path, content).split("\n"), start=1) if line.strip()]
    if not lines:
        raise MullError(f"{path} holds no prompt", "write one per line")
    if path.suffix.lower() not in _JSON_LINES:
        return [[{"role": "user", "content": line}] for _, line in lines]
    return [_conversation(line, f"line {i} of {path}") for i, line in lines]


def _conversation(line: str, where: str) -> Messages:
    try:
        entry: Any = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise MullError(f"{where} is no JSON: {error}", "write one object per line") from None
    if isinstance(entry, dict):
        messages = entry.get("messages")
        if isinstance(messages, list):
            if not messages or not all(_is_message(each) for each in messages):
                raise MullError(f"{where} holds messages without role or content", "give both as text in each")
            return messages
        text = entry.get("prompt", entry.get("question"))
        if isinstance(text, str) and text.strip():
            return [{"role": "user", "content": text}]
    raise MullError(f"{where} names no prompt", 'give it a key "prompt", "question" or "messages"')


def _is_message(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(value.get(key), str) for key in ("role", "content"))
