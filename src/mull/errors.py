"""`MullError`: what mull raises where the user can correct the input."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager


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


def nearest(name: str, known: Iterable[str]) -> str:
    """`"did you mean 'x'?"` if a known name is similar to `name`, else the list of known names."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {close[0]!r}?" if close else "known: " + ", ".join(known)


@contextmanager
def naming(place: object) -> Iterator[None]:
    """What goes wrong within begins with the name of its `place`: a file, a rule, a run."""
    try:
        yield
    except MullError as error:
        raise type(error)(f"{place}: {error.what}", error.remedy) from None
