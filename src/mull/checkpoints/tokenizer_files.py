"""Reads what is compared of tokenizer files: the strings of token ids, the chat template, and how they mark thought."""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import Any

from mull.checkpoints.chat_template import prompt_end
from mull.errors import MullError
from mull.thinking import KNOWN, ThinkTags, named_tags

_MOST = 1 << 31
"""No token has such an id."""


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in the file. Raises MullError if the file is unreadable or damaged."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise MullError(f"cannot read {path}: {error.strerror}", "check that you may read it") from None
    except (ValueError, RecursionError) as error:  # bad UTF-8 is a ValueError too
        raise MullError(f"{path} is not valid JSON ({error})", "download or save this file again") from None
    if not isinstance(value, dict):
        raise MullError(f"{path} holds a {type(value).__name__}, not an object", "download or save this file again")
    return value


class TokenizerFiles:
    """The tokenizer files of a model folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @cached_property
    def strings(self) -> dict[int, str] | None:
        """Token id → string; None if the folder has no readable vocabulary (only sentencepiece, or none)."""
        tokens: dict[int, str] = {}
        whole, parts = self.folder / "tokenizer.json", self.folder / "vocab.json"
        try:
            if whole.is_file():
                data = read_json(whole)
                vocabulary = data["model"]["vocab"]
                pairs = (
                    vocabulary.items()
                    if isinstance(vocabulary, dict)
                    else ((e[0], i) for i, e in enumerate(vocabulary))
                )
                tokens = {index: string for string, index in pairs}
                tokens |= {token["id"]: token["content"] for token in data.get("added_tokens", [])}
            elif parts.is_file():
                tokens = {index: string for string, index in read_json(parts).items()}
            else:
                return None
            extra = self.folder / "added_tokens.json"
            if extra.is_file():
                tokens |= {index: string for string, index in read_json(extra).items()}
            for index, token in self.settings.get("added_tokens_decoder", {}).items():
                tokens[int(index)] = token["content"]
            if not all(type(i) is int and 0 <= i < _MOST and type(text) is str for i, text in tokens.items()):
                raise ValueError("token ids must be numbers and tokens texts")
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            raise MullError(
                f"{self.folder}: damaged tokenizer files ({error!r})", "download or save them again"
            ) from None
        return tokens

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The content of tokenizer_config.json; empty if there is none."""
        path = self.folder / "tokenizer_config.json"
        return read_json(path) if path.is_file() else {}

    @cached_property
    def chat_template(self) -> str | None:
        """The default chat template: chat_template.jinja, else the one in tokenizer_config.json."""
        path = self.folder / "chat_template.jinja"
        if path.is_file():
            return path.read_text(encoding="utf-8", errors="replace")
        template = self.settings.get("chat_template")
        if isinstance(template, list) and all(isinstance(each, dict) for each in template):
            template = next((each.get("template") for each in template if each.get("name") == "default"), None)
        if template is not None and not isinstance(template, str):
            where = self.folder / "tokenizer_config.json"
            raise MullError(f"the chat template in {where} is no text", "download or save this file again")
        return template

    @cached_property
    def think_tags(self) -> tuple[ThinkTags, ...]:
        """The known delimiters of thoughts that the chat template or the vocabulary names; may be empty."""
        template = self.chat_template
        return named_tags([template] if isinstance(template, str) else [], set((self.strings or {}).values()))

    @cached_property
    def opened_thought(self) -> str | None:
        """The delimiter with which the prompt of the template opens a thought, empty if it opens none.

        Found by rendering the template with its defaults. None if there is no template, or it cannot be rendered.
        """
        if not isinstance(self.chat_template, str):
            return None
        named = {key: value for key, value in self.settings.items() if key.endswith("_token")}
        named = {key: value.get("content") if isinstance(value, dict) else value for key, value in named.items()}
        end = prompt_end(self.chat_template, {key: value for key, value in named.items() if isinstance(value, str)})
        if end is None:
            return None
        end = end.replace("\\n", "\n").rstrip()  # some templates write a newline as two characters
        return max((tags.open for tags in KNOWN if end.endswith(tags.open)), key=len, default="")

    @property
    def opens_thought(self) -> bool | None:
        """Whether the prompt of the template opens a thought; None as for `opened_thought`."""
        return None if self.opened_thought is None else bool(self.opened_thought)
