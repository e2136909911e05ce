"""Token ids of a conversation under a tokenizer's chat template, rendered in a process with limits."""

from __future__ import annotations

from typing import Any

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from mull.errors import MullError
from mull.worker import Unanswered, Worker

Messages = list[dict[str, Any]]

SECONDS = 5.0
"""Most time for one conversation. An ordinary one takes milliseconds."""
_FEWEST = 1 << 20
_PER_TOKEN = 16
"""A rendered conversation may have `_FEWEST` characters, or `_PER_TOKEN` for each token of the context if that is more.
Tokens have about four characters, so a longer one would not fit the context."""

_worker = Worker("mull.engines.local.template_worker", SECONDS)


def start() -> None:
    """Start the process, whose imports then run beside what the caller does next."""
    _worker.launch()


def token_ids(tokenizer: Any, messages: Messages, context: int, date: str | None = None) -> list[int]:
    """The conversation under the tokenizer's template, ready for an assistant's turn, as transformers makes it.

    `context`: tokens of the model's context. `date`: the day that the template is told if it asks for it.

    Raises:
        MullError: the template fails, does not end, or makes a text that is too long.
    """
    try:
        if type(tokenizer).apply_chat_template is not PreTrainedTokenizerBase.apply_chat_template:
            # Code of the tokenizer's own, which the user has allowed to run, or of a library, and no template.
            return tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=True, return_dict=False)
        text = _worker.ask(
            {
                "template": tokenizer.get_chat_template(),
                "messages": messages,
                "names": tokenizer.special_tokens_map,
                "date": date,
                "most": max(_FEWEST, _PER_TOKEN * context),
            }
        )["text"]
        return tokenizer(text, add_special_tokens=False)["input_ids"]
    except (Unanswered, TemplateError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise MullError(f"the chat template fails: {error}", "mend it, or take the other side as donor") from None
