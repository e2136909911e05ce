"""What mkdocs does besides to the pages of docs/."""

import re


def on_page_markdown(markdown: str, **_: object) -> str:
    """Links to files outside docs/, which the site does not have, become their text."""
    return re.sub(r"\[([^\]]+)\]\(\.\./[^)]*\)", r"\1", markdown)
