"""Renders chat templates as transformers does, without loading it.

A template is a program that came with a model: it runs in a child process (`mull.worker`), with limited time and
memory.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import cache
from typing import Any

from mull.errors import MullError
from mull.worker import Unanswered, Worker, limit_memory, serve

SECONDS = 10.0
MEMORY = 256 << 20
"""Most bytes that rendering may allocate."""
TAIL = 1000
"""Characters of a rendered prompt that are needed."""
_DAY = datetime(2025, 1, 1)
"""What a template is told that asks for the date."""


def prompt_end(template: str, tokens: Mapping[str, str]) -> str | None:
    """The last `TAIL` characters of a rendered question with the beginning of the model's turn.

    `tokens`: the special tokens that a template may name, such as `bos_token`. None if it cannot be rendered.
    """
    return _prompt_end(template, tuple(sorted(tokens.items())))


@cache
def _prompt_end(template: str, tokens: tuple[tuple[str, str], ...]) -> str | None:
    try:
        return _worker().ask({"template": template, "tokens": dict(tokens)})["end"]
    except (Unanswered, MullError):
        return None


@cache
def _worker() -> Worker:
    return Worker(__name__, SECONDS)


def _begin() -> tuple[dict[str, Any], Callable[[dict[str, Any]], dict[str, Any]]]:
    """For the child: compiles and renders."""
    from jinja2 import nodes
    from jinja2.exceptions import TemplateError
    from jinja2.ext import Extension, loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        """The block in which transformers looks for the assistant's tokens; its content is rendered as it is."""

        tags = {"generation"}  # noqa: RUF012 (so jinja2 declares it)

        def parse(self, parser: Any) -> nodes.Node | list[nodes.Node]:
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    def refuse(message: str) -> str:
        raise TemplateError(message)

    limit_memory(MEMORY)
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, Generation]
    )
    environment.filters["tojson"] = lambda value, indent=None: json.dumps(value, ensure_ascii=False, indent=indent)
    environment.globals |= {"raise_exception": refuse, "strftime_now": _DAY.strftime}

    def render(request: dict[str, Any]) -> dict[str, Any]:
        messages = [{"role": "user", "content": "1+1"}]
        text = environment.from_string(request["template"]).render(
            **request["tokens"], messages=messages, add_generation_prompt=True
        )
        return {"end": text[-TAIL:]}

    return {}, render


if __name__ == "__main__":
    serve(_begin)
