"""The λ that an owner names for a server or a chat: a number, or `auto` and the estimator that chooses it."""

from __future__ import annotations

from mull.benchmarks import FREE_ANSWER, AnswerForm
from mull.dynamic.base import Estimator
from mull.dynamic.estimators.conf import zero_shot
from mull.dynamic.head import Head
from mull.errors import MullError, nearest


def chooser_of(head: Head | None, name: str) -> tuple[Estimator, AnswerForm]:
    """What chooses λ for `auto`, and how it forces answers. Raises `MullError` for an unknown name."""
    form = head.form if head else FREE_ANSWER
    known = {each.name: each for each in (head.estimators() if head else [zero_shot(form)])}
    if name not in known:
        hint = nearest(name, known) if head else "without --head there is conf alone"
        raise MullError(f"no estimator {name!r}", hint)
    return known[name], form


def lam_of(text: str, named: str = "--lambda") -> float | None:
    """The λ of a text; None: auto. `named`: what the text was given by. Raises `MullError` for what is no λ."""
    if text == "auto":
        return None
    try:
        lam = float(text)
    except ValueError:
        lam = -1.0
    if not 0 <= lam <= 1:
        raise MullError(f"{named} {text!r} is no λ", "give a number from 0 to 1, or auto")
    return lam
