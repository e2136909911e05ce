"""The `mull` command: one verb per file, errors as one line, exit codes 0, 1 (the answer is no), 2 (wrong input).

A verb's file is imported when the verb is called, because imports are slow; the list of verbs needs no import.
"""

from __future__ import annotations

import ast
import functools
import importlib
import io
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from mull import __version__
from mull.cli import interrupt
from mull.errors import MullError, is_panic
from mull.escaping import visible

VERBS = {
    "Models": ("inspect", "merge", "methods", "extract-delta"),
    "Measuring": ("sweep", "ablate", "compare", "benchmarks", "regrade", "demo"),
    "Results": ("report", "export", "paper", "stages"),
    "Choosing λ": ("choose", "headroom"),
}
"""The verbs under their headings. Each is a function of the same name in its own file in `mull.cli.verbs`."""

_RESUMABLE = ("merge", "sweep", "ablate", "compare", "choose", "regrade", "demo")


def load_verb(name: str) -> Callable[..., int | None]:
    """The function of a verb."""
    module = name.replace("-", "_")
    return getattr(importlib.import_module(f"mull.cli.verbs.{module}"), module)


def summary_of(name: str) -> str:
    """The docstring of a verb's function, read from its file without importing it."""
    module = name.replace("-", "_")
    tree = ast.parse((Path(__file__).parent / "verbs" / f"{module}.py").read_text(encoding="utf-8"))
    found = next(node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == module)
    return ast.get_docstring(found) or ""


class LazyGroup(TyperGroup):
    """A command group that imports a verb only when the verb is called or its options are needed."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        for heading, names in VERBS.items():
            for name in names:
                self.commands[name] = TyperCommand(name, callback=None, rich_help_panel=heading)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        known = self.commands.get(cmd_name)
        if known is not None and known.callback is None:
            try:
                verb = load_verb(cmd_name)
            except KeyboardInterrupt:
                raise typer.Exit(_interrupted(cmd_name)) from None
            alone = typer.Typer(rich_markup_mode="markdown", add_completion=False)
            alone.command(cmd_name)(_guarded(verb))
            known = self.commands[cmd_name] = typer.main.get_command(alone)
        return known

    def format_help(self, ctx: Any, formatter: Any) -> None:
        for name, command in self.commands.items():
            command.help = command.help or summary_of(name)
        shown = TyperGroup(name=self.name, commands=dict(self.commands), help=self.help, params=self.params)
        shown.rich_markup_mode = self.rich_markup_mode
        shown.format_help(ctx, formatter)


app = typer.Typer(
    name="mull",
    cls=LazyGroup,
    help="Control how much a language model thinks, by interpolating its Instruct and Thinking weights.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _guarded(verb: Callable[..., int | None]) -> Callable[..., None]:
    """The verb with errors printed as one line, so that a user's mistake never shows a traceback."""

    @functools.wraps(verb)
    def run(*args: object, **kwargs: object) -> None:
        try:
            code = verb(*args, **kwargs)
        except MullError as error:
            _complain(str(error))
            code = 2
        except BrokenPipeError:  # as in `mull … | head`, when `head` has ended
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            code = 141
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            _complain(f"{where}{error.strerror or error}")
            code = 2
        except KeyboardInterrupt:
            code = _interrupted(verb.__name__)
        except RecursionError:
            _complain("an input file is nested too deeply")
            code = 2
        except MemoryError:
            _complain("out of memory. Free some, or give smaller files")
            code = 2
        except BaseException as error:
            if is_panic(error):
                _complain(f"a library failed on an input file ({error})")
                code = 2
            elif isinstance(error, Exception) and interrupt.seen():
                code = _interrupted(verb.__name__)  # Ctrl-C inside an import may become another error
            else:
                raise
        raise typer.Exit(code or 0)

    return run


def _complain(text: str) -> None:
    print(f"mull: {visible(' '.join(text.splitlines()))}", file=sys.stderr)


@app.callback(invoke_without_command=True)
def _root(version: bool = typer.Option(False, "--version", help="Print the version.", is_eager=True)) -> None:
    if version:
        print(f"mull {__version__}")
        raise typer.Exit


def _interrupted(verb: str) -> int:
    # After a KeyboardInterrupt inside exec() of a string (which dataclasses and others use while they are imported),
    # Python ends itself by SIGINT at exit, whatever the exit code. Another exec() resets that.
    exec("")
    left = "; the same command goes on from what is done" if verb in _RESUMABLE else ""
    print(f"mull: interrupted{left}", file=sys.stderr)
    return 130


def main() -> None:
    """Entry point of the command line."""
    interrupt.watch()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that cannot show λ shows a question mark
    app()


if __name__ == "__main__":
    main()
