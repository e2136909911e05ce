"""Ctrl-C at any moment of a sweep or a merge ends it with one line and code 130, imports included."""

import os
import signal
import subprocess
import sys
import time

import pytest

from mull.tiny import checkpoint_folder

ENDS = ["--instruct", str(checkpoint_folder("instruct")), "--thinking", str(checkpoint_folder("thinking"))]


@pytest.mark.parametrize("after", [1.5, 2.5, 4.0])
def test_ctrl_c_is_never_lost(tmp_path, after):
    arguments = [
        "sweep",
        *ENDS,
        "--lambdas",
        "0,0.5,1",
        "-k",
        "16",
        "--questions",
        "70",
        "--run",
        str(tmp_path / "run"),
    ]
    command = [sys.executable, "-m", "mull.cli.main", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    time.sleep(after)
    os.kill(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert errors.rstrip().endswith("mull: interrupted; the same command goes on from what is done")
    assert "Traceback" not in errors


def test_ctrl_c_while_many_questions_are_drawn():
    benchmark = "from mull.benchmarks import load_benchmark; load_benchmark('tiny', questions=20000).questions()"
    code = f"import typer, mull.cli.main as m\ndef verb():\n  print('go', flush=True); {benchmark}\n"
    code += "app = typer.Typer()\napp.command()(m._guarded(verb))\nm.interrupt.watch()\napp()"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout and process.stdout.readline() == "go\n"
    time.sleep(1.0)
    os.kill(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=2)
    assert process.returncode == 130 and "interrupted" in errors, errors


def test_an_interrupt_inside_exec_keeps_the_exit_code(tmp_path):
    """`python -m` remembers such an interrupt and would end by SIGINT in spite of the handler."""
    (tmp_path / "program.py").write_text(
        "import sys, typer\n"
        "import mull.cli.main as m\n"
        "def verb():\n"
        "    exec('raise KeyboardInterrupt')\n"
        "app = typer.Typer()\n"
        "app.command()(m._guarded(verb))\n"
        "app()\n"
    )
    command = [sys.executable, "-m", "program"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert (done.returncode, "interrupted" in done.stderr) == (130, True)
