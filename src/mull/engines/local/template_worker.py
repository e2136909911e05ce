"""The process that renders chat templates. They are programs of whoever made the checkpoint, and may loop for ever or
build strings of gigabytes, so the process has limits and is killed when it passes them.

A request is `{"template": …, "messages": …, "names": …, "date": …, "most": …}`, its answer `{"text": …}`. Started by
`mull.worker`.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, ClassVar, Self

from transformers.utils import chat_template_utils

from mull.worker import limit_memory, serve

MEMORY = 256 << 20
"""Most bytes that rendering may allocate."""


class _Clock(datetime):
    """What transformers asks for the time, which a template may ask for: midnight of the day that is given."""

    given: ClassVar[str | None] = None

    @classmethod
    def now(cls, tz: Any = None) -> Self:
        return super().now(tz) if cls.given is None else cls.fromisoformat(cls.given)


def begin() -> tuple[dict[str, Any], Callable[[dict[str, Any]], dict[str, Any]]]:
    chat_template_utils.datetime = _Clock  # pyright: ignore[reportPrivateImportUsage]
    limit_memory(MEMORY)
    return {}, render


def render(request: dict[str, Any]) -> dict[str, Any]:
    """Render as transformers does, whose function this is."""
    _Clock.given = request["date"]
    rendered, _ = chat_template_utils.render_jinja_template(
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
