"""`mull chat`: a conversation with a pair on the terminal, with λ chosen between turns."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from mull import interrupt
from mull.api.progress.terminal import Terminal
from mull.cli.options.answering import AnsweringOptions
from mull.cli.options.common import check_temperature, consoles
from mull.cli.options.groups import grouped
from mull.cli.options.routes import row_engine
from mull.cli.rendering.logs import complain
from mull.engines.base import Sampling
from mull.errors import MullError

if TYPE_CHECKING:
    from mull.cli.rendering.chat import ChatScreen
    from mull.serving.chat import Chat

COMMANDS = {
    "/lambda": "/lambda 0.4  answer with this λ from now on",
    "/auto": "/auto        let λ be chosen for each question",
    "/budget": "/budget 200  close thoughts after so many tokens; /budget off: no limit",
    "/new": "/new         forget the conversation",
    "/history": "/history     show it",
    "/help": "/help        this list",
    "/quit": "/quit        end; so does Ctrl-D. Ctrl-C stops an answer, at the prompt it ends, too",
}
"""What a line that begins with a slash can say."""


@grouped
def chat(
    answering: AnsweringOptions,
    temperature: Annotated[float, typer.Option(help="0 = greedy.", min=0)] = 0.6,
    seed: Annotated[int, typer.Option(help="Seed of the sampling.")] = 0,
    system: Annotated[str | None, typer.Option(help="A system prompt.", metavar="TEXT")] = None,
) -> None:
    """Chat with the pair on the terminal, and choose between turns how much it thinks.

    The thought is dimmed, the answer plain; thoughts are not sent back to the model. `/lambda 0.4`, `/auto`,
    `/budget 200`, `/new`, `/history`, `/help` and `/quit` are commands. Ctrl-C stops an answer; that turn is forgotten.
    In a pipe each line is a turn, and only the answers are printed.

    Examples:

    `mull chat`

    `mull chat --instruct A --thinking B --lambda 0.4`

    `echo "What is the sum of 3 4 5 6 7?" | mull chat --lambda 0.6 --temperature 0`
    """
    from mull.cli.rendering.chat import ChatScreen
    from mull.serving.chat import Chat

    check_temperature(temperature)
    stdout, stderr = consoles()
    observer = Terminal(stderr)
    pair, lam, estimator, form = answering.open()
    with observer.busy("loading the checkpoints"):
        engine = row_engine(pair, answering.pair)
    sampling = Sampling(max_tokens=answering.max_tokens, temperature=temperature)
    with Chat(engine, estimator, form, lam=lam, sampling=sampling, system=system, seed=seed) as session:
        talk(session, ChatScreen(stdout), _reader(), lambda error: complain(str(error)))


def _reader() -> Callable[[], str]:
    """Reads a line: on a terminal with a prompt, editing and earlier lines. Raises EOFError at the end."""
    if sys.stdin.isatty() and sys.stdout.isatty():
        import readline  # noqa: F401  (`input` edits lines and knows earlier ones once this is imported)

        return lambda: input("> ")

    def read() -> str:
        line = sys.stdin.readline()
        if not line:
            raise EOFError
        return line

    return read


def talk(chat: Chat, screen: ChatScreen, read: Callable[[], str], complain: Callable[[MullError], object]) -> None:
    """Takes turns until the lines end, or Ctrl-C comes while none is being answered."""
    screen.say("Ask something; /help lists the commands.")
    while True:
        try:
            line = read().rstrip()
        except (EOFError, KeyboardInterrupt):
            screen.fresh_line()
            interrupt.forget()
            return
        if line.strip() == "/quit":
            return
        try:
            if line.startswith("/"):
                _obey(line, chat, screen)
            elif line.strip():
                screen.pieces(chat.ask(line.strip()))
                screen.turn(chat.turns[-1])
        except MullError as error:
            screen.fresh_line()
            complain(error)
        except KeyboardInterrupt:
            interrupt.forget()
            screen.say("(stopped; Ctrl-C again ends)")


def _obey(line: str, chat: Chat, screen: ChatScreen) -> None:
    """Carries out a command. Raises `MullError` for what is none."""
    from mull.dynamic.choosing import lam_of

    command, _, value = (part.strip() for part in line.partition(" "))
    if command == "/lambda":
        chat.lam = lam_of(value, "/lambda")
        screen.say("λ is chosen for each question" if chat.lam is None else f"λ is {chat.lam:g} from now on")
    elif command == "/auto":
        chat.lam = None
        screen.say("λ is chosen for each question")
    elif command == "/budget":
        chat.set_budget(_budget(value))
        screen.say(f"thoughts are closed after {value} tokens" if value.isdecimal() else "thoughts have no budget")
    elif command == "/new":
        chat.new()
        screen.say("the conversation is forgotten")
    elif command == "/history":
        screen.history(chat.turns)
    elif command == "/help":
        screen.say("\n".join(COMMANDS.values()))
    else:
        raise MullError(f"no command {command!r}", "/help lists them; begin a question with a space before its slash")


def _budget(value: str) -> int | None:
    if value in ("off", ""):
        return None
    if not value.isdecimal():
        raise MullError(f"/budget {value!r} is no number of tokens", "as in /budget 200, or /budget off")
    return int(value)
