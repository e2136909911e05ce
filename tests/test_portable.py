"""What mull does on systems without fork, resource, fcntl, positioned reads and writes, timers: simulated here."""

import fcntl
import os
import subprocess
import sys
import threading
from types import SimpleNamespace

import pytest

import mull
from mull import portable
from mull.errors import MullError
from mull.folders import LOCK, locked

BUSY = MullError("busy", "wait")
MISSING = """
import fcntl, mmap, multiprocessing, os, select, signal, subprocess, sys, types
import polars, torch
def locking(descriptor, mode, nbytes, flock=fcntl.flock, how=fcntl.LOCK_EX | fcntl.LOCK_NB):
    flock(descriptor, how)
sys.modules["msvcrt"] = types.SimpleNamespace(locking=locking, LK_NBLCK=2)
for name in ("fcntl", "resource", "readline", "mull.merging._kernels", "mull.checkpoints._files"):
    sys.modules[name] = None
for module, names in (
    (os, "fork preadv pread pwrite pwritev posix_fallocate posix_fadvise sched_getaffinity O_DIRECTORY mkfifo"),
    (signal, "alarm setitimer SIGALRM ITIMER_PROF SIGPROF SIGBUS"),
    (select, "poll epoll"),
    (mmap, "MAP_ANONYMOUS MAP_ANON MAP_PRIVATE"),
):
    for name in names.split():
        if hasattr(module, name):
            delattr(module, name)
"""
"""Put before a program, takes from its process what Windows lacks; libraries have taken what they need."""


def without(program, *arguments):
    """What a program prints on such a system."""
    command = [sys.executable, "-c", MISSING + program, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


MERGE = """
import mull
pair = mull.Pair.built_in()
mull.merge(pair, 0.4, out=sys.argv[1], quiet=True)
"""


def test_a_merge_has_the_same_bytes(tmp_path):
    without(MERGE, tmp_path / "elsewhere")
    mull.merge(mull.Pair.built_in(), 0.4, out=tmp_path / "here", quiet=True)
    here, elsewhere = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("here", "elsewhere"))
    assert here == elsewhere


@pytest.mark.slow
def test_the_demo_runs(tmp_path):
    program = """
from mull.cli.main import main
from mull.engines.local import engine
assert engine.default_processes(True) == 1
os.chdir(sys.argv[1])
sys.argv[1:] = ["demo", "--quick"]
main()
"""
    without(program, tmp_path)
    assert (tmp_path / "demo-run-quick" / "run.sqlite").exists()


def test_workers_answer_without_limits():
    """The grader's process and the one that reads Parquet, with their own code."""
    program = """
from mull.benchmarks.graders import math_worker
from mull.benchmarks import parquet_worker
from mull.worker import limit_memory
limit_memory(1)
with math_worker._alarm(1):
    print("graded")
file = __import__("io").BytesIO()
polars.DataFrame({"a": [1]}).write_parquet(file)
file.seek(0)
sys.stdin = __import__("types").SimpleNamespace(buffer=file)
parquet_worker.main(1000)
"""
    assert without(program) == 'graded\n{"a": 1}\n'


@pytest.fixture
def windows_locks(monkeypatch):
    """Windows' own locks, on top of those of this system."""

    def locking(descriptor, mode, nbytes):
        assert (mode, nbytes) == ("without waiting", 1)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise PermissionError(13, "Permission denied") from error

    monkeypatch.setitem(sys.modules, "fcntl", None)
    monkeypatch.setitem(sys.modules, "msvcrt", SimpleNamespace(locking=locking, LK_NBLCK="without waiting"))


@pytest.mark.usefixtures("windows_locks")
def test_a_folder_is_locked_by_the_locks_of_windows(tmp_path):
    with locked(tmp_path, BUSY), pytest.raises(MullError, match="busy"), locked(tmp_path, BUSY):
        pass
    with locked(tmp_path, BUSY):
        assert (tmp_path / LOCK).exists()


@pytest.fixture
def file(tmp_path, monkeypatch):
    """An open file of 4,000 bytes on a system without reads and writes at an offset."""
    for name in ("preadv", "pwrite", "posix_fallocate"):
        monkeypatch.delattr(os, name, raising=False)
    with (tmp_path / "file").open("w+b") as opened:
        portable.reserve(opened.fileno(), 4000)
        yield opened.fileno()


def test_threads_read_and_write_at_offsets(file):
    assert os.fstat(file).st_size == 4000
    wrong = []

    def work(number):
        mine, found = bytes([number]) * 1000, memoryview(bytearray(1000))
        for _ in range(200):
            portable.write_at(file, memoryview(mine), number * 1000)
            if portable.read_at(file, found, number * 1000) != 1000 or found != mine:
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong and portable.read_at(file, memoryview(bytearray(10)), 4000) == 0
