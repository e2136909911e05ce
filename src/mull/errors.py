"""`MullError`: what mull raises where the user can correct the input."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from mull.words import listed


class MullError(Exception):
    """A mistake in the input or a limit of the machine: what was wrong, where, and the remedy.

    The command line prints it as one line and exits with code 2; programs may read the parts.
    """

    def __init__(self, what: str, remedy: str = "") -> None:
        first = remedy[:1].upper() if remedy[:1].isascii() else remedy[:1]  # λ is not Λ
        super().__init__(f"{what}. {first}{remedy[1:]}" if remedy else what)
        self.what = what
        self.remedy = remedy


def is_panic(error: BaseException) -> bool:
    """Whether a library in Rust (tokenizers, polars) failed; its error is no `Exception`, of a type of its own."""
    return type(error).__name__ == "PanicException"


class Refused(MullError):
    """Two readable checkpoints that mull refuses to mix. Exit code 1 from `mull inspect`, 2 from every other verb."""


def nearest(name: str, known: Iterable[str], others_say: Mapping[str, str | Sequence[str]] | None = None) -> str:
    """`"did you mean 'x'?"` if a known name is similar to `name` or means the same, else the list of known names.

    `others_say`: words that users know from elsewhere, in small letters and digits alone → the known name or names.
    """
    known, said = sorted(known), others_say or {}
    plain = _plain(name)
    close: Sequence[str] = [each for each in known if _plain(each) == plain]
    if not close and plain in said:
        meant = said[plain]
        close = [each for each in ([meant] if isinstance(meant, str) else meant) if each in known]
    close = close or difflib.get_close_matches(name.lower(), known, n=1)
    return f"did you mean {listed(list(map(repr, close)), 'or')}?" if close else "known: " + ", ".join(known)


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


@contextmanager
def naming(place: object) -> Iterator[None]:
    """What goes wrong within begins with the name of its `place`: a file, a rule, a run."""
    try:
        yield
    except MullError as error:
        raise type(error)(f"{place}: {error.what}", error.remedy) from None
