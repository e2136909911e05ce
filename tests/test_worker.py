"""A process for what may hang: it answers, is killed when it hangs, comes back, and never outlives its limit."""

import os
import subprocess
import sys
import time

import pytest

from mull.errors import MullError
from mull.worker import Unanswered, Worker

CHILD = """
import time
from mull.worker import serve

def begin():
    print("a library prints on import")
    def handle(request):
        print("and on use")
        what = request["what"]
        if what == "sleep":
            time.sleep(60)
        if what == "loop in C":
            len(str(7 ** (7 ** 11)))
        if what == "die":
            import os
            os._exit(3)
        if what == "fail":
            raise ValueError("no such thing")
        return {"said": what, "pid": __import__("os").getpid()}
    return {"hello": True}, handle

serve(begin)
"""


@pytest.fixture
def worker(tmp_path, monkeypatch):
    (tmp_path / "child_of_test.py").write_text(CHILD)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    worker = Worker("child_of_test", seconds=2.0)
    yield worker
    worker.close()


def test_it_answers_and_stays(worker):
    assert worker.start() == {"hello": True}
    first, second = worker.ask({"what": "é\n7"}), worker.ask({"what": "b"})
    assert (first["said"], second["said"]) == ("é\n7", "b") and first["pid"] == second["pid"]


@pytest.mark.parametrize(("what", "why"), [("sleep", "within 2 s"), ("loop in C", "within 2 s"), ("die", "code 3")])
def test_one_that_hangs_or_dies_is_replaced(worker, what, why):
    before = worker.ask({"what": "a"})["pid"]
    began = time.monotonic()
    with pytest.raises(Unanswered, match=why):
        worker.ask({"what": what})
    assert what == "die" or time.monotonic() - began >= 2
    assert worker.ask({"what": "b"})["pid"] != before
    with pytest.raises(ProcessLookupError):
        os.kill(before, 0)


def test_a_failure_is_told_and_the_process_stays(worker):
    before = worker.ask({"what": "a"})["pid"]
    with pytest.raises(Unanswered, match="ValueError: no such thing"):
        worker.ask({"what": "fail"})
    assert worker.ask({"what": "b"})["pid"] == before


def test_a_fork_leaves_its_parents_child_alone(worker):
    mine = worker.ask({"what": "a"})["pid"]
    pid = os.fork()
    if pid == 0:
        other = worker.ask({"what": "b"})["pid"]
        worker.close()
        os._exit(0 if other != mine else 1)
    assert os.waitpid(pid, 0)[1] == 0
    assert worker.ask({"what": "c"})["pid"] == mine


def test_one_that_does_not_start_is_named():
    with pytest.raises(MullError, match=r"did not start \(exit code 1\).*mull.no_such_module"):
        Worker("mull.no_such_module").start()


def test_a_child_whose_parent_was_killed_ends_by_itself(worker, tmp_path):
    code = (
        "import os, sys; from mull.worker import Worker; w = Worker('child_of_test', seconds=0.5);"
        "print(w.ask({'what': 'a'})['pid'], flush=True); w._process.stdin.write(b'{\"what\": \"loop in C\"}\\n');"
        "w._process.stdin.flush(); os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    child = int(done.stdout)
    with pytest.raises(ProcessLookupError):
        while True:  # or the test times out
            os.kill(child, 0)
            time.sleep(0.1)
