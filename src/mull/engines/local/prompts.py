"""A checkpoint's tokenizer, chat template and context length, which are read without loading weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from transformers import AutoConfig, AutoTokenizer, GenerationConfig

from mull.engines.local import templates
from mull.engines.weights.interpolated import loading
from mull.errors import MullError
from mull.thinking import CLOSE, split_thinking


class Prompts:
    """Renders conversations and reads responses as the donor's tokenizer does.

    Raises `MullError` for a folder without a readable config or tokenizer.
    """

    def __init__(self, folder: Path, trust_remote_code: bool = False) -> None:
        templates.start()
        with loading("tokenizer", folder, trust_remote_code):
            self.tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code)
            closing = self.tokenizer.encode(CLOSE, add_special_tokens=False)
        with loading("config", folder, trust_remote_code):
            config = AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code).get_text_config()
            self.context = int(config.max_position_embeddings)
        """The largest number of tokens of prompt and response together."""
        self.stop_ids = _stop_ids(folder, config.eos_token_id, self.tokenizer.eos_token_id)
        self._close_id = closing[0] if len(closing) == 1 else None

    def render(self, messages: list[dict[str, str]]) -> tuple[int, ...]:
        """Token ids of a conversation under the chat template, ready for an assistant's turn."""
        if not self.tokenizer.chat_template:
            raise MullError("the donor has no chat template", "Take the other side as donor")
        return tuple(templates.token_ids(self.tokenizer, messages, self.context))

    def text(self, token_ids: Sequence[int]) -> str:
        """The decoded text without special tokens; think tags are kept."""
        return self.tokenizer.decode(token_ids, skip_special_tokens=True)

    def thought_tokens(self, token_ids: Sequence[int], text: str, *, finished: bool) -> int:
        """How many of `token_ids`, whose text is `text`, belong to the thought, its closing tag included.

        All if the thought does not end, 0 if there is none (`mull.thinking.split_thinking`).
        """
        split = split_thinking(text, finished=finished)
        if split.kind == "none":
            return 0
        if split.kind == "unclosed":
            return len(token_ids)
        if split.kind == "closed" and self._close_id in token_ids:
            return token_ids.index(self._close_id) + 1
        low, high = 0, len(token_ids)  # search the smallest number of tokens whose text contains the whole thought
        while low < high:
            middle = (low + high) // 2
            if len(self.text(token_ids[:middle])) >= split.end:
                high = middle
            else:
                low = middle + 1
        return low


def _stop_ids(folder: Path, *others: int | list[int] | None) -> frozenset[int]:
    """End-of-text ids from the generation config, else from the first of `others` that is not None."""
    with loading("generation config", folder, False):
        given = (folder / "generation_config.json").is_file()
        found = GenerationConfig.from_pretrained(folder).eos_token_id if given else None
        for candidate in (found, *others):
            if candidate is not None:
                return frozenset([candidate] if isinstance(candidate, int) else candidate)
    return frozenset()
