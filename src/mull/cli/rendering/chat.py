"""A chat on a console: the thought dimmed, the answer plain, figures after each turn."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console

from mull.engines.local.streaming.thought import Piece
from mull.serving.chat import Turn
from mull.words import counted


class ChatScreen:
    """Shows turns: on a terminal as they come, in a pipe each answer when it is whole, and no more."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._column = 0
        """Characters of the line on which the cursor stands."""

    def say(self, text: str) -> None:
        """A line of the program's own, on a terminal."""
        if self.console.is_terminal:
            self.fresh_line()
            self._print(text + "\n", style="cyan")

    def fresh_line(self) -> None:
        if self._column:
            self._print("\n")

    def pieces(self, pieces: Iterable[Piece]) -> None:
        """Shows the pieces of a response on a terminal; reads them all in a pipe."""
        kind = ""
        for piece in pieces:
            if not self.console.is_terminal:
                continue
            if piece.kind != kind:
                self.fresh_line()
                kind = piece.kind
            self._print(piece.text, style="dim" if kind == "thought" else "")

    def turn(self, turn: Turn) -> None:
        """Shows what `pieces` could not: the answer in a pipe, corrections and figures on a terminal."""
        if not self.console.is_terminal:
            self._print(turn.answer + "\n")
            return
        if turn.corrected:
            self.say("This turned out to be the answer:" if turn.answer else "This turned out to be thought.")
            self._print(turn.answer)
        self.say(figures(turn))

    def history(self, turns: Iterable[Turn]) -> None:
        """Shows the conversation so far."""
        for turn in turns:
            self.say(f"> {turn.question}")
            self._print(turn.answer + "\n")
            self.say(figures(turn))

    def _print(self, text: str, style: str = "") -> None:
        self.console.print(text, end="", style=style, markup=False, highlight=False, soft_wrap=True)
        self._column = len(text.rpartition("\n")[2]) + (0 if "\n" in text else self._column)


def figures(turn: Turn) -> str:
    """What a turn cost, and its λ."""
    cut = ", cut at the token limit" if turn.finish == "length" else ""
    return (
        f"λ {turn.lam:g} ({turn.why}) · {counted(turn.thought_tokens, 'token')} of thought, {turn.answer_tokens:,} of "
        f"answer{cut} · {turn.seconds:.1f} s"
    )
