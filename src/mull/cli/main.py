"""The `mull` command: one verb per file, errors as one line, exit codes 0, 1 (the answer is no), 2 (wrong input)."""

from __future__ import annotations

import functools
import io
import os
import sys
from collections.abc import Callable

import typer

from mull import __version__
from mull.cli import interrupt
from mull.cli.verbs.ablate import ablate
from mull.cli.verbs.benchmarks import benchmarks
from mull.cli.verbs.choose import choose
from mull.cli.verbs.compare import compare
from mull.cli.verbs.demo import demo
from mull.cli.verbs.export import export
from mull.cli.verbs.extract_delta import extract_delta
from mull.cli.verbs.headroom import headroom
from mull.cli.verbs.inspect import inspect
from mull.cli.verbs.merge import merge
from mull.cli.verbs.methods import methods
from mull.cli.verbs.paper import paper
from mull.cli.verbs.regrade import regrade
from mull.cli.verbs.report import report
from mull.cli.verbs.stages import stages
from mull.cli.verbs.sweep import sweep
from mull.errors import MullError

VERBS: tuple[Callable[..., int | None], ...] = (
    inspect,
    merge,
    methods,
    extract_delta,
    sweep,
    ablate,
    compare,
    benchmarks,
    report,
    export,
    paper,
    regrade,
    choose,
    headroom,
    stages,
    demo,
)

app = typer.Typer(
    name="mull",
    help="Control how much a language model thinks, by interpolating its Instruct and Thinking weights.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)


_RESUMABLE = ("merge", "sweep", "ablate", "compare", "choose", "regrade", "demo")


def _guarded(verb: Callable[..., int | None]) -> Callable[..., None]:
    """The verb with its errors as one line: never a traceback for a user's mistake."""

    @functools.wraps(verb)
    def run(*args: object, **kwargs: object) -> None:
        try:
            code = verb(*args, **kwargs)
        except MullError as error:
            print(f"mull: {error}", file=sys.stderr)
            code = 2
        except BrokenPipeError:  # `mull … | head`: the reader has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            code = 141
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            print(f"mull: {where}{error.strerror or error}", file=sys.stderr)
            code = 2
        except KeyboardInterrupt:
            code = _interrupted(verb.__name__)
        except Exception:
            if not interrupt.seen():
                raise
            code = _interrupted(verb.__name__)  # Ctrl-C inside an import comes out as some other error
        raise typer.Exit(code or 0)

    return run


for _verb in VERBS:
    app.command()(_guarded(_verb))


@app.callback(invoke_without_command=True)
def _root(version: bool = typer.Option(False, "--version", help="Print the version.", is_eager=True)) -> None:
    if version:
        print(f"mull {__version__}")
        raise typer.Exit


def _interrupted(verb: str) -> int:
    # A KeyboardInterrupt that passed through exec() of a string (dataclasses and others use it while they are
    # imported) leaves a mark on which Python, at its very end, dies by SIGINT all the same; a further exec clears it.
    exec("")
    left = "; the same command goes on from what is done" if verb in _RESUMABLE else ""
    print(f"mull: interrupted{left}", file=sys.stderr)
    return 130


def main() -> None:
    """Entry point of the command line."""
    interrupt.watch()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without λ gets a question mark, not a traceback
    app()


if __name__ == "__main__":
    main()
