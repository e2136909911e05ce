"""The process that renders chat templates. They are programs of whoever made the checkpoint, and may loop for ever or
build strings of gigabytes, so the process has limits and is killed when it passes them.

A request is `{"template": …, "messages": …, "names": …, "most": …}`, its answer `{"text": …}`. Started by
`mull.worker`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from transformers.utils.chat_template_utils import render_jinja_template

from mull.worker import limit_memory, serve

MEMORY = 256 << 20
"""Most bytes that rendering may allocate."""


def begin() -> tuple[dict[str, Any], Callable[[dict[str, Any]], dict[str, Any]]]:
    limit_memory(MEMORY)
    return {}, render


def render(request: dict[str, Any]) -> dict[str, Any]:
    """Render as transformers does, whose function this is."""
    rendered, _ = render_jinja_template(
        conversations=[request["messages"]],
        chat_template=request["template"],
        add_generation_prompt=True,
        **request["names"],
    )
    if len(rendered[0]) > request["most"]:
        raise ValueError(f"it makes {len(rendered[0]):,} characters of one question")
    return {"text": rendered[0]}


if __name__ == "__main__":
    serve(begin)
