"""Runs the `mull` command for tests: in this process where what it prints and writes counts, else in one of its own."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import time
import traceback
from collections.abc import Mapping
from pathlib import Path

import torch
from typer.testing import CliRunner

from mull.cli.main import app

COMMAND = (sys.executable, "-m", "mull.cli.main")


def mull(*arguments: object, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """What `mull` answers, without the seconds that a new process takes for its imports.

    `env` adds to the variables of this process. What belongs to a process (signals, streams, imports, variables that
    are read when a library is imported) is not tested this way: see `process`.
    """
    words = list(map(str, arguments))
    threads = torch.get_num_threads()
    result = CliRunner().invoke(app, words, env=env)
    torch.set_num_threads(threads)
    errors = result.stderr
    if result.exception and not isinstance(result.exception, SystemExit):
        errors += "".join(traceback.format_exception(result.exception))
    return subprocess.CompletedProcess(words, result.exit_code, result.stdout, errors)


def process(*arguments: object, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """The same from a process of its own."""
    return subprocess.run([*COMMAND, *map(str, arguments)], capture_output=True, text=True, env=env)


def started(*arguments: object, env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
    """A process of `mull` that is under way."""
    command = [*COMMAND, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)


def wait_for_responses(run: Path, enough: int, under_way: subprocess.Popen[str]) -> None:
    """Until so many responses of a run are on record, or the process that samples them has ended."""
    while count(run) < enough and under_way.poll() is None:
        time.sleep(0.01)


def count(run: Path) -> int:
    """How many responses of a run are on record."""
    try:
        with sqlite3.connect(f"file:{run / 'run.sqlite'}?mode=ro", uri=True) as connection:
            return connection.execute("SELECT COUNT(*) FROM samples").fetchone()[0]
    except sqlite3.OperationalError:
        return 0
