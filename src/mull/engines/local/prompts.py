"""A checkpoint's tokenizer, chat template and context length, which are read without loading weights."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from pathlib import Path

from transformers import AutoConfig, AutoTokenizer, GenerationConfig, PreTrainedTokenizerBase

from mull.engines.base import Request
from mull.engines.local import templates
from mull.engines.local.decoding.budget import ThoughtBudget
from mull.engines.local.streaming.reader import ResponseReader
from mull.engines.local.streaming.text import TextStream
from mull.engines.weights.interpolated import loading
from mull.errors import MullError
from mull.thinking import KNOWN, Split, ThinkTags, split_thinking, without_closing

_TAIL = 32
"""Tokens at the end of a prompt among which it may open a thought."""


class Prompts:
    """Renders conversations and reads responses as the donor's tokenizer does.

    Raises `MullError` for a folder without a readable config or tokenizer.
    """

    def __init__(
        self,
        folder: Path,
        trust_remote_code: bool = False,
        think_tags: Sequence[ThinkTags] = KNOWN,
        date: str | None = None,
    ) -> None:
        """`think_tags`: the delimiters of thoughts, which stay in the text. `date`: the day that a template is told if
        it asks for it, as YYYY-MM-DD; by default that of the rendering."""
        templates.start()
        with loading("tokenizer", folder, trust_remote_code):
            self.tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code)
        with loading("config", folder, trust_remote_code):
            config = AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code).get_text_config()
            self.context = int(config.max_position_embeddings)
        """The largest number of tokens of prompt and response together."""
        self.stop_ids = _stop_ids(folder, config.eos_token_id, self.tokenizer.eos_token_id)
        self.tags = tuple(think_tags)
        self._date = date
        special = _special_tokens(self.tokenizer)
        delimiters = [delimiter for tags in self.tags for delimiter in tags]
        parts = {i for i, token in special.items() if token and any(token in delimiter for delimiter in delimiters)}
        self._kept = frozenset(parts - self.stop_ids)
        """Special tokens that stay in the text, because delimiters consist of them."""
        self._dropped = frozenset(special) - self._kept
        with loading("tokenizer", folder, trust_remote_code):
            encoded = [self.tokenizer.encode(tags.close, add_special_tokens=False) for tags in self.tags]
        self._close_ids = frozenset(ids[0] for ids in encoded if len(ids) == 1)
        bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
        found = zip(self.tokenizer.convert_tokens_to_ids(bytes_), bytes_, strict=True)
        known = {i: name for i, name in found if i is not None}
        self._byte_ids = frozenset(i for i, name in known.items() if self.tokenizer.convert_ids_to_tokens(i) == name)
        """Tokens of one byte each, where the tokenizer falls back to bytes."""

    def render(self, messages: list[dict[str, str]]) -> tuple[int, ...]:
        """Token ids of a conversation under the chat template, ready for an assistant's turn."""
        if not self.tokenizer.chat_template:
            raise MullError("the donor has no chat template", "Take the other side as donor")
        return tuple(templates.token_ids(self.tokenizer, messages, self.context, self._date))

    def budget(self, request: Request) -> ThoughtBudget | None:
        """The limit of a request's thought in token ids; None if it has none.

        The delimiters are those that the prompt opens, else the first that are known of this model.
        """
        tokens = request.sampling.thinking_budget
        if tokens is None:
            return None
        opened = self.opened(request.prompt_ids)
        tags = opened or self.tags[0]
        open_ids, close_ids = (tuple(self.tokenizer.encode(part, add_special_tokens=False)) for part in tags)
        return ThoughtBudget(
            tokens=tokens,
            open_ids=open_ids,
            close_ids=close_ids,
            message_ids=self._message_ids(request.sampling.budget_message),
            opened=opened is not None,
        )

    def _message_ids(self, message: str | None) -> tuple[int, ...]:
        """The tokens of a sentence that ends a thought. Raises `MullError` if it holds a delimiter or special token."""
        ids = tuple(self.tokenizer.encode(message, add_special_tokens=False)) if message else ()
        named = next((tag for tags in self.tags for tag in tags if message and tag in message), None)
        named = named or next((self.tokenizer.decode([i]) for i in ids if i in self._kept | self._dropped), None)
        if named is not None:
            raise MullError(f"the budget message holds {named!r}", "Leave it out: the closing delimiter is added")
        return ids

    def reader(
        self, request: Request, stop: Sequence[str] = (), *, hold: bool = False, direct: bool = False
    ) -> ResponseReader:
        """Reads a response to `request` token by token, as `text` and `mull.thinking.split_thinking` read the whole.

        `stop`: strings before which the text ends. `hold` and `direct`: see `ThoughtStream`."""
        cleans = _cleans(self.tokenizer)

        def decode(token_ids: Sequence[int]) -> str:
            return self.tokenizer.decode(token_ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)

        stream = TextStream(decode, byte_ids=self._byte_ids, clean=clean_spaces if cleans else None)
        opened = self.opened(request.prompt_ids) is not None
        return ResponseReader(stream, self._dropped, self.tags, stop, opened=opened, hold=hold, direct=direct)

    def opened(self, prompt_ids: Sequence[int]) -> ThinkTags | None:
        """The delimiters of the thought that a prompt has begun at its end; None if it has begun none."""
        tail = self.tokenizer.decode(prompt_ids[-_TAIL:], skip_special_tokens=False).rstrip()
        return next((tags for tags in self.tags if tail.endswith(tags.open.rstrip())), None)

    def encode(self, text: str) -> tuple[int, ...]:
        """Token ids of plain text, without special tokens round it."""
        return tuple(self.tokenizer.encode(text, add_special_tokens=False))

    def text(self, token_ids: Sequence[int]) -> str:
        """The decoded text without special tokens, except those that delimit thoughts."""
        if self._kept.isdisjoint(token_ids):
            return self.tokenizer.decode(token_ids, skip_special_tokens=True)
        return self.tokenizer.decode([i for i in token_ids if i not in self._dropped], skip_special_tokens=False)

    def is_closed(self, token_ids: Sequence[int]) -> bool:
        """Whether these tokens of a response, which may go on, have a whole thought."""
        return split_thinking(self.text(token_ids), finished=False, tags=self.tags).kind == "closed"

    def thought_tokens(self, token_ids: Sequence[int], text: str, *, finished: bool) -> int:
        """How many of `token_ids`, whose text is `text`, belong to thoughts, delimiters included.

        All if the thought does not end, 0 if there is none (`mull.thinking.split_thinking`).
        """
        split = split_thinking(text, finished=finished, tags=self.tags)
        if split.kind == "none":
            return 0
        if split.end == len(text) and split.kind == "unclosed":
            return len(token_ids)
        after = len(token_ids) - self._count(token_ids, split.tail) if split.tail < len(text) else 0
        return self._count(token_ids, split.end) + after

    def reasoning_tokens(self, token_ids: Sequence[int], text: str, split: Split) -> int:
        """How many of `token_ids`, whose text is `text`, belong to thoughts, delimiters not included.

        A token that holds the end of a thought and the beginning of its delimiter counts.
        """
        spans = [(0, split.end), (split.tail, len(text))]
        total = 0
        for begin, end in spans if split.kind != "none" else ():
            part = text[begin:end]
            bare = part.lstrip()
            opening = max((len(tags.open) for tags in self.tags if bare.startswith(tags.open)), default=0)
            if opening:
                begin += len(part) - len(bare) + opening
            end -= len(part) - len(without_closing(part, self.tags))
            if begin < end:
                total += self._count(token_ids, end) - self._count(token_ids, begin)
        return total

    def _count(self, token_ids: Sequence[int], characters: int) -> int:
        """The smallest number of tokens whose text has so many characters."""

        def reach(tokens: int) -> bool:
            text = self.text(token_ids[:tokens])
            return len(text.rstrip("\ufffd")) >= characters  # U+FFFD: the first bytes of a character

        last = next((i for i in reversed(range(len(token_ids))) if token_ids[i] in self._close_ids), None)
        if last is not None and reach(last + 1) and not reach(last):
            return last + 1  # mostly so, and found without a search
        return bisect_left(range(len(token_ids)), True, key=reach)


def clean_spaces(text: str) -> str:
    """Without the spaces before punctuation that some tokenizers write and transformers removes."""
    for found in (" .", " ?", " !", " ,", " ' ", " n't", " 'm", " 's", " 've", " 're"):
        text = text.replace(found, found.strip())
    return text


def _cleans(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether `decode` removes spaces before punctuation: transformers does not for BPE, unless it is told to."""
    if not tokenizer.clean_up_tokenization_spaces:
        return False
    backend = getattr(tokenizer, "backend_tokenizer", None)
    forced = getattr(tokenizer, "clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output", False)
    return backend is None or type(backend.model).__name__ != "BPE" or bool(forced)


def _special_tokens(tokenizer: PreTrainedTokenizerBase) -> dict[int, str]:
    """Id and text of the tokens that are left out of a text on request."""
    added = {i: str(token) for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    return added | dict(zip(tokenizer.all_special_ids, tokenizer.all_special_tokens, strict=True))


def _stop_ids(folder: Path, *others: int | list[int] | None) -> frozenset[int]:
    """End-of-text ids from the generation config, else from the first of `others` that is not None."""
    with loading("generation config", folder, False):
        given = (folder / "generation_config.json").is_file()
        found = GenerationConfig.from_pretrained(folder).eos_token_id if given else None
        for candidate in (found, *others):
            if candidate is not None:
                return frozenset([candidate] if isinstance(candidate, int) else candidate)
    return frozenset()
