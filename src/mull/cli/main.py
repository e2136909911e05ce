"""The `mull` command: one verb per file, errors as one line, exit codes 0, 1 (the answer is no), 2 (wrong input).

A verb's file is imported when the verb is called, because imports are slow; the list of verbs needs no import.
"""

from __future__ import annotations

import ast
import functools
import gc
import importlib
import io
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args, get_type_hints

import typer
from typer.core import TyperCommand, TyperGroup

from mull import __version__, interrupt
from mull.cli.rendering.logs import complain, show_logs
from mull.errors import MullError, is_panic, nearest

VERBS = {
    "Models": ("inspect", "geometry", "merge", "methods", "extract-delta"),
    "Measuring": ("sweep", "ablate", "compare", "benchmarks", "regrade", "demo"),
    "Results": ("status", "report", "export", "push", "paper", "stages"),
    "Choosing λ": ("choose", "headroom"),
    "Serving": ("plan", "serve", "chat"),
    "λ per query": ("route train", "route eval", "route explain"),
}
"""The verbs under their headings. Each is a function of the same name in its own file in `mull.cli.verbs`, with an
underscore for a space."""
GROUPS = {"route": "Choose λ for each query: train estimators, judge them, explain one question."}
"""Verbs of two words by their first: what `mull --help` says of them."""

_OTHERS_SAY = {
    **dict.fromkeys(("interpolate", "mix", "blend", "average", "lerp"), "merge"),
    **dict.fromkeys(("diff", "check", "show", "info"), "inspect"),
    **dict.fromkeys(("eval", "evaluate", "sample", "run", "generate", "bench", "benchmark", "test"), "sweep"),
    **dict.fromkeys(("progress", "state", "watch", "ls", "list"), "status"),
    **dict.fromkeys(("plot", "results", "summary", "view", "html"), "report"),
    **dict.fromkeys(("grade", "rescore", "score"), "regrade"),
    **dict.fromkeys(("pick", "select", "best", "optimize", "optimise", "recommend"), "choose"),
    **dict.fromkeys(("ablation", "study"), "ablate"),
    **dict.fromkeys(("lora", "extract", "delta", "adapter"), "extract-delta"),
    **dict.fromkeys(("tables", "csv", "dump"), "export"),
    **dict.fromkeys(("upload", "publish", "card"), "push"),
    **dict.fromkeys(("example", "quickstart", "try"), "demo"),
    **dict.fromkeys(("cka", "barrier", "connectivity", "pilot", "continuity"), "geometry"),
    **dict.fromkeys(("talk", "repl", "ask"), "chat"),
    **dict.fromkeys(("server", "api", "openai", "start"), "serve"),
    **dict.fromkeys(("scale", "scaling", "size", "cost", "estimate", "hardware", "gpus"), "plan"),
    **dict.fromkeys(("datasets", "graders", "tasks"), "benchmarks"),
}
"""Verbs of other tools, for hints."""

_RESUMABLE = ("merge", "push", "sweep", "ablate", "compare", "choose", "regrade", "demo", "route_eval")


def _module(name: str) -> str:
    return name.replace("-", "_").replace(" ", "_")


def load_verb(name: str) -> Callable[..., int | None]:
    """The function of a verb."""
    module = _module(name)
    return getattr(importlib.import_module(f"mull.cli.verbs.{module}"), module)


def summary_of(name: str) -> str:
    """The docstring of a verb's function, read from its file without importing it."""
    module = _module(name)
    tree = ast.parse((Path(__file__).parent / "verbs" / f"{module}.py").read_text(encoding="utf-8"))
    found = next(node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == module)
    return ast.get_docstring(found) or ""


def _refuse_nan(kind: Any) -> None:
    """NaN lies in no range, which typer knows from 0.29 on. `kind`: the type of an option, of older releases only."""
    if "float" not in getattr(kind, "name", "") or not hasattr(kind, "min"):
        return
    whole = kind.convert

    def convert(value: Any, parameter: Any, ctx: Any) -> Any:
        found = whole(value, parameter, ctx)
        if found != found:
            kind.fail(f"{value} lies in no range.", parameter, ctx)
        return found

    kind.convert = convert


class LazyGroup(TyperGroup):
    """A command group that imports a verb only when the verb is called or its options are needed."""

    first = ""
    """The word before those of this group's verbs, with a space; empty for the whole command line."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        for heading, names in VERBS.items():
            for name in names:
                head, _, rest = name.removeprefix(self.first).partition(" ")
                if not name.startswith(self.first):
                    continue
                self.commands[head] = (
                    _subgroup(head, heading) if rest else TyperCommand(head, callback=None, rich_help_panel=heading)
                )

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        known = self.commands.get(cmd_name)
        if isinstance(known, LazyGroup):
            return known
        if known is not None and known.callback is None:
            try:
                verb = load_verb(self.first + cmd_name)
            except KeyboardInterrupt:
                raise typer.Exit(_interrupted(cmd_name)) from None
            alone = typer.Typer(rich_markup_mode="markdown", add_completion=False)
            alone.command(cmd_name)(_guarded(verb))
            known = self.commands[cmd_name] = typer.main.get_command(alone)
            for parameter in known.params:
                _refuse_nan(getattr(parameter, "type", None))
        return known

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args[0] not in self.commands and args[0][:1] != "-" and not ctx.resilient_parsing:
            hint = nearest(args[0], self.commands, _OTHERS_SAY)
            see = f"See mull {self.first}--help."
            ctx.fail(f"No such command {args[0]!r}. " + (f"D{hint[1:]}" if hint.endswith("?") else see))
        name, command, rest = super().resolve_command(ctx, args)
        if name is not None and not isinstance(command, LazyGroup):
            _refuse_empty(ctx, self.first + name, command, rest)
        return name, command, rest

    def format_help(self, ctx: Any, formatter: Any) -> None:
        for name, command in self.commands.items():
            command.help = command.help or summary_of(self.first + name)
        shown = TyperGroup(name=self.name, commands=dict(self.commands), help=self.help, params=self.params)
        shown.rich_markup_mode = self.rich_markup_mode
        shown.format_help(ctx, formatter)


def _subgroup(word: str, heading: str) -> LazyGroup:
    """The verbs whose first word is `word`."""
    kind = type("LazySubgroup", (LazyGroup,), {"first": f"{word} "})
    group = kind(name=word, help=GROUPS[word], no_args_is_help=True, rich_markup_mode="markdown")
    group.rich_help_panel = heading
    group.context_settings = {"help_option_names": ["-h", "--help"]}
    return group


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
            complain(str(error))
            code = 2
        except BrokenPipeError:  # as in `mull … | head`, when `head` has ended
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            code = 141
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            complain(f"{where}{error.strerror or error}")
            code = 2
        except KeyboardInterrupt:
            code = _interrupted(verb.__name__)
        except RecursionError:
            complain("an input file is nested too deeply")
            code = 2
        except MemoryError:
            complain("out of memory. Free some, or give smaller files")
            code = 2
        except BaseException as error:
            if is_panic(error):
                complain(f"a library failed on an input file ({error})")
                code = 2
            elif isinstance(error, Exception) and interrupt.seen():
                code = _interrupted(verb.__name__)  # Ctrl-C inside an import may become another error
            else:
                raise
        raise typer.Exit(code or 0)

    return run


def _refuse_empty(ctx: Any, verb: str, command: Any, args: list[str]) -> None:
    """Refuse an empty path, as of a shell variable that is not set: it would be the current folder."""
    hints = get_type_hints(load_verb(verb), include_extras=True)
    named = {name for name, hint in hints.items() for kind in get_args(hint)[:1] if Path in (kind, *get_args(kind))}
    paths = {option for param in command.params if param.name in named for option in param.opts}
    for i, word in enumerate(args):
        name = args[i - 1] if i and word == "" else word.removesuffix("=") if word.endswith("=") else None
        if name in paths or (word == "" and not (i and args[i - 1].startswith("-"))):
            what = name if name in paths else "An argument"
            ctx.fail(f"{what} is empty. Give a path; a shell variable may not be set.")


@app.callback(invoke_without_command=True)
def _root(
    version: bool = typer.Option(False, "--version", help="Print the version.", is_eager=True),
    quiet: bool = typer.Option(False, "--quiet", "-q", help="Results and errors only: no bars, notes and warnings."),
    verbose: bool = typer.Option(False, "--verbose", "-v", help="Also what is opened, planned and computed."),
) -> None:
    if version:
        print(f"mull {__version__}")
        raise typer.Exit
    try:
        show_logs(quiet=quiet, verbose=verbose)
    except MullError as error:
        complain(str(error))
        raise typer.Exit(2) from None


def _interrupted(verb: str) -> int:
    # After a KeyboardInterrupt inside exec() of a string (which dataclasses and others use while they are imported),
    # Python ends itself by SIGINT at exit, whatever the exit code. Another exec() resets that.
    exec("")
    left = "; the same command goes on from what is done" if verb in _RESUMABLE else ""
    print(f"mull: interrupted{left}", file=sys.stderr)
    return 130


def main() -> None:
    """Entry point of the command line."""
    if sys.argv[1:2] in (["inspect"], ["merge"]):
        gc.set_threshold(100_000)  # with 36,000 tensors on record, the usual search for garbage takes a second
    interrupt.watch()
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # mull says itself what its users should know
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that cannot show λ shows a question mark
    app()


if __name__ == "__main__":
    main()
