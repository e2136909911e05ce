"""Ctrl-C at any moment of a sweep or a merge ends it with one line and code 130, imports included."""

import os
import signal
import subprocess
import sys

import pytest

from mull.tiny import checkpoint_folder

from ..running import started, wait_for_responses

ENDS = ["--instruct", str(checkpoint_folder("instruct")), "--thinking", str(checkpoint_folder("thinking"))]


SAYING = """
import sys
class Saying:
    def find_spec(self, name, *_):
        if name == {name!r}:
            print("importing", name, file=sys.stderr, flush=True)
sys.meta_path.insert(0, Saying())
"""


@pytest.mark.parametrize("moment", ["torch.nn", "transformers", "donor of template", "a response"])
def test_ctrl_c_is_never_lost(tmp_path, moment):
    """In imports of large packages, between the steps and while responses come."""
    (tmp_path / "sitecustomize.py").write_text(SAYING.format(name=moment))
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
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
    process = started(*arguments, env={**os.environ, "PYTHONPATH": path})
    assert process.stderr
    if moment == "a response":
        wait_for_responses(tmp_path / "run", 1, process)
    else:
        assert any(moment in line for line in iter(process.stderr.readline, ""))
    os.kill(process.pid, signal.SIGINT)
    _, errors = process.communicate()
    assert process.returncode == 130, errors
    assert errors.rstrip().endswith("mull: interrupted; the same command goes on from what is done")
    assert "Traceback" not in errors


def test_ctrl_c_while_many_questions_are_drawn():
    code = (
        "import typer\n"
        "import mull.cli.main as m\n"
        "from mull.benchmarks import arithmetic, load_benchmark\n"
        "stream = arithmetic.stream\n"
        "def drawing(*given):\n"
        "    for i, problem in enumerate(stream(*given)):\n"
        "        if i == 1000:\n"
        "            print('drawing', flush=True)\n"
        "        yield problem\n"
        "arithmetic.stream = drawing\n"
        "def verb():\n"
        "    load_benchmark('tiny', questions=20000).questions()\n"
        "    print('drawn', flush=True)\n"
        "app = typer.Typer()\n"
        "app.command()(m._guarded(verb))\n"
        "m.interrupt.watch()\n"
        "app()\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout and process.stdout.readline() == "drawing\n"
    os.kill(process.pid, signal.SIGINT)
    output, errors = process.communicate()
    assert process.returncode == 130 and "interrupted" in errors, errors
    assert "drawn" not in output


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
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, "interrupted" in done.stderr) == (130, True)
