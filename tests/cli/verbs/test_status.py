"""`mull status`: how far a run is, beside its writer, too."""

import fcntl
import json
import shutil

import pytest

from mull.errors import MullError
from mull.folders import LOCK, locked
from mull.runs.sessions.status import status
from mull.runs.store import RunStore
from tests.reports import conftest as runs
from tests.running import mull


@pytest.fixture
def run(tmp_path):
    runs.make_run(tmp_path / "run", (0, 0.5, 1), 6, 2, stop=15).__exit__()
    return tmp_path / "run"


def test_what_is_missing_is_named(run):
    done = mull("status", run)
    assert done.returncode == 0, done.stderr
    assert "15 of 36 responses on record (42%)" in done.stdout
    assert "missing: 9 of 0.5, 12 of 1\n" in done.stdout
    assert "no session is under way; last written 0:0" in done.stdout
    assert "engine: local/float32" in done.stdout and "sums: 6 questions, k = 2, 3 settings: 0, 0.5, 1" in done.stdout


def test_a_complete_run_and_json(run, tmp_path):
    runs.make_run(tmp_path / "whole", (0, 1), 4, 2).__exit__()
    found = json.loads(mull("status", run, tmp_path / "whole", "--json").stdout)
    assert list(found) == [str(run), str(tmp_path / "whole")]
    assert found[str(run)]["missing"] == {"0.5": 9, "1": 12}
    whole = found[str(tmp_path / "whole")]
    assert (whole["responses"], whole["planned"], whole["missing"], whole["seconds_left"]) == (16, 16, {}, None)


def test_a_session_under_way_is_seen_and_not_disturbed(run):
    with RunStore.amend(run) as store:
        store.note_pace(1000, 10.0)
        store.note_kernels("these kernels")
        found = status(run)
        assert found.under_way is True and found.tokens_per_second == 100
        tokens = sum(sample.tokens for sample in store.samples(texts=False))
        assert found.seconds_left == pytest.approx(21 * tokens / 15 / 100)
        assert "a session is under way" in (said := mull("status", run).stdout) and "kernels: these kernels" in said
    assert status(run).under_way is False


def test_nothing_is_written(run):
    def written():  # SQLite's readers keep their locks in the -shm file
        return {path.name: path.stat().st_mtime_ns for path in run.iterdir() if not path.name.endswith("-shm")}

    before = written()
    status(run)
    assert written() == before


def test_one_who_asks_does_not_turn_a_writer_away(run, monkeypatch):
    with (run / LOCK).open() as asking:
        fcntl.flock(asking, fcntl.LOCK_SH)
        monkeypatch.setattr("mull.folders.time.sleep", lambda _: fcntl.flock(asking, fcntl.LOCK_UN))
        with locked(run, MullError("busy")):
            pass


def test_the_pace_of_a_race_gives_no_time_left(run):
    with RunStore.amend(run) as store:
        store.note_pace(1000, 10.0)
        store.note_race(["0.5"])
    assert status(run).seconds_left is None
    assert "mull choose samples only as many as its choice needs" in mull("status", run).stdout


def test_wrong_folders_are_refused(run, tmp_path):
    (tmp_path / "empty").mkdir()
    shutil.copytree(run, tmp_path / "several" / "gsm8k")
    for folder, said in (
        (tmp_path / "none", "holds no run (no run.sqlite)"),
        (tmp_path / "empty", "holds no run (no run.sqlite)"),
        (tmp_path / "several", "holds no run itself, but the runs gsm8k. Give those folders"),
    ):
        done = mull("status", run, folder)
        assert (done.returncode, done.stdout) == (2, "") and said in done.stderr
