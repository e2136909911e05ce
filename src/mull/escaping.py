"""Foreign text made harmless for the place where it is shown: names, paths, answers and messages may hold anything."""

from __future__ import annotations

import json
import re

_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters, which can command a terminal; what turns the direction of text around; halves of characters."""
_MARKDOWN = re.compile(r"[\\`*_|<>#&~$]|\](?=[(\[:])")
"""What is markup in Markdown; a closing bracket only where it would make a link."""
_FORMULA = re.compile(r"\s*[=+\-@＝＋－＠]")
_PLAIN_YAML = re.compile(r"(?!(true|false|null|yes|no|on|off|y|n)$)[a-z][a-z0-9_./@+-]*", re.IGNORECASE)
"""What YAML reads as a text without quotes."""


def visible(text: str) -> str:
    """`text` for a terminal or a JSON file: line breaks and tabs stay, other control characters become `\\u001b`."""
    return _UNSEEN.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def markdown(text: str) -> str:
    """Markdown on one line that shows `text` as it is: no HTML, no markup, no link, no further column of a table."""
    return _MARKDOWN.sub(r"\\\g<0>", " ".join(visible(text).splitlines()))


def yaml(text: str) -> str:
    """`text` as one YAML scalar: a plain word as it is, anything else in quotes."""
    return text if _PLAIN_YAML.fullmatch(text) else visible(json.dumps(text, ensure_ascii=False))


def csv_cell(text: str) -> str:
    """`text` for a cell of a CSV file: a spreadsheet would compute what begins as a formula, so a quote goes before it.

    A number stays a number, with its sign.
    """
    if not _FORMULA.match(text):
        return text
    try:
        float(text)
    except ValueError:
        return f"'{text}"
    return text
