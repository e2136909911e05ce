"""The run store: nothing doubles, another plan is refused with the difference, one writer at a time."""

import errno
import fcntl
import json
import multiprocessing
import os
import re
import shutil
import sqlite3
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from mull.analysis.records import Sample
from mull.benchmarks import load_benchmark
from mull.checkpoints.pair import Pair
from mull.engines.base import Sampling
from mull.errors import MullError
from mull.folders import whole_file
from mull.merging.coefficients import Coefficients
from mull.runs import database, frames
from mull.runs.frames import lazy_frame, write_parquet
from mull.runs.plan import StudyKind, SweepPlan
from mull.runs.run import provenance
from mull.runs.settings import Setting
from mull.runs.store import RunStore
from mull.tiny import checkpoint_folder


@pytest.fixture
def plan():
    pair = Pair.open(str(checkpoint_folder("instruct")), str(checkpoint_folder("thinking")))
    settings = [Setting.of(Coefficients.scalar(lam)) for lam in (0.0, 0.5, 1.0)]
    return SweepPlan(pair, settings, load_benchmark("tiny", questions=7), 2, Sampling(max_tokens=64))


def sample(**changes):
    values = {
        "benchmark": "tiny", "question": "q1", "setting": "0.5", "lam": 0.5, "index": 0, "seed": 7, "tokens": 3,
        "text": "é</script>\x00", "finish": "stop", "thinking": "closed", "answer": "7", "correct": True,
        "seconds": 0.25, "stratum": "easy",
    }  # fmt: skip
    return Sample(**{**values, **changes})


def test_samples_come_back_as_they_went_in_and_never_double(plan, tmp_path):
    with RunStore.record(tmp_path / "run", plan, provenance(plan)) as store:
        store.add(sample())
        store.add(sample(index=1, correct=False))
        store.add(sample(text="another text for the same key"))
    with RunStore.open(tmp_path / "run") as store:
        assert store.samples() == [sample(), sample(index=1, correct=False)]
        assert store.done("0.5") == {("q1", 0), ("q1", 1)}
        assert lazy_frame(store).collect()["correct"].to_list() == [True, False]
        assert set(store.questions) == {q.id for q in plan.benchmark.questions()}


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({"seed": 1}, r"seed: 0 → 1"),
        ({"sampling": Sampling(max_tokens=64, temperature=1.0)}, r"sampling\.temperature: 0\.6 → 1\.0"),
        ({"settings": [Setting.of(Coefficients.only(0.5, layers=(0, 1)))]}, r"λ: 0, 0\.5, 1 → "),
        ({"benchmark": load_benchmark("tiny", questions=7, seed=1)}, r"benchmark\.seed: 0 → 1"),
        ({"pair": Pair.open(str(checkpoint_folder("base")), str(checkpoint_folder("thinking")))}, "instruct: "),
    ],
)
def test_another_plan_is_refused_with_the_difference(plan, tmp_path, changes, difference):
    with RunStore.record(tmp_path / "run", plan, provenance(plan)):
        pass
    other = replace(plan, **changes)
    with pytest.raises(MullError, match=f"another plan.*{difference}"), RunStore.record(tmp_path / "run", other, {}):
        pass
    with RunStore.record(tmp_path / "run", replace(plan), {}):
        pass


GROWN = {
    "more λ": ({"settings": [Setting.of(Coefficients.scalar(0.7))]}, (4, 7, 2)),
    "larger k": ({"k": 4}, (3, 7, 4)),
    "more questions": ({"benchmark": load_benchmark("tiny", questions=14)}, (3, 14, 2)),
    "fewer of all": (
        {"settings": [Setting.of(Coefficients.scalar(1.0))], "k": 1, "benchmark": load_benchmark("tiny", questions=3)},
        (3, 7, 2),
    ),
}


@pytest.mark.parametrize(("changes", "size"), GROWN.values(), ids=GROWN)
def test_a_run_grows_and_never_shrinks(plan, tmp_path, changes, size):
    with RunStore.record(tmp_path / "run", plan, provenance(plan)) as store:
        store.add(sample())
    other = replace(plan, **changes)
    for again in (other, plan, other):
        with RunStore.record(tmp_path / "run", again, {}):
            pass
    with RunStore.open(tmp_path / "run") as store:
        assert (len(store.plan["settings"]), len(store.questions), store.plan["k"]) == size
        assert store.plan["benchmark"]["questions"] == size[1]
        assert store.samples() == [sample()]


def test_what_a_run_has_grown_to_is_its_plan(plan, tmp_path):
    """Step by step or at once: the same record, and from then on the same refusals."""
    larger = replace(
        plan,
        settings=[*plan.settings, Setting.of(Coefficients.scalar(0.7))],
        k=3,
        benchmark=load_benchmark("tiny", questions=14),
    )
    for each in (plan, replace(plan, k=3), replace(plan, benchmark=larger.benchmark), larger):
        with RunStore.record(tmp_path / "run", each, {}):
            pass
    with RunStore.open(tmp_path / "run") as store:
        assert store.plan == json.loads(json.dumps(larger.record))
    with pytest.raises(MullError, match="seed: 0 → 1"), RunStore.record(tmp_path / "run", replace(larger, seed=1), {}):
        pass


def test_a_study_does_not_grow_by_other_weights(plan, tmp_path):
    layers = [Setting.of(Coefficients.only(0.8, layers=span)) for span in ((0, 1), (2, 3))]
    plan = replace(plan, settings=layers, study=StudyKind.layers)
    with RunStore.record(tmp_path / "run", plan, {}):
        pass
    with RunStore.record(tmp_path / "run", replace(plan, k=3), {}):
        pass
    other = replace(plan, settings=[*layers, Setting.of(Coefficients.only(0.8, layers=(4, 5)))])
    with pytest.raises(MullError, match="another plan"), RunStore.record(tmp_path / "run", other, {}):
        pass


def test_another_checkpoint_is_named_beside_its_hash(plan, tmp_path):
    deep = tmp_path / "a" / "b" / "models"
    for name in ("old/instruct", "new/instruct"):
        shutil.copytree(checkpoint_folder("instruct"), deep / name)
    config = deep / "new" / "instruct" / "config.json"
    config.write_text(config.read_text() + " ")

    def of(folder):
        return replace(plan, pair=Pair.open(str(folder), str(checkpoint_folder("thinking"))))

    first, other = of(deep / "old" / "instruct"), of(deep / "new" / "instruct")
    with RunStore.record(tmp_path / "run", first, provenance(first)):
        pass
    # Two folders by their ends, and one folder whose content has changed by its whole path.
    short = (
        rf"\(instruct: …/old/instruct \({first.record['instruct']}\) → …/new/instruct \({other.record['instruct']}\)\)"
    )
    shutil.copy(config, deep / "old" / "instruct" / "config.json")
    retrained = of(deep / "old" / "instruct")
    path = re.escape(str(deep / "old" / "instruct"))
    for changed, said in ((other, short), (retrained, rf"instruct: {path} \(.*→ {path} \(")):
        with pytest.raises(MullError, match=said), RunStore.record(tmp_path / "run", changed, provenance(changed)):
            pass


def test_a_moved_checkpoint_is_the_same_plan(plan, tmp_path):
    folder = shutil.copytree(checkpoint_folder("instruct"), tmp_path / "moved")
    moved = replace(plan, pair=Pair.open(str(folder), str(checkpoint_folder("thinking"))))
    assert moved.digest == plan.digest and provenance(moved) != provenance(plan)


def test_one_writer_at_a_time(plan, tmp_path):
    first = RunStore.record(tmp_path / "run", plan, {})
    second = RunStore.record(tmp_path / "run", plan, {})
    with first, pytest.raises(MullError, match="another process is writing"), second:
        pass


def test_a_folder_of_something_else_is_left_alone(plan, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(MullError, match="holds something else"), RunStore.record(tmp_path, plan, {}):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_no_run_and_a_damaged_run_are_named(tmp_path):
    with pytest.raises(MullError, match="holds no run"):
        RunStore.open(tmp_path)
    (tmp_path / "run.sqlite").write_bytes(b"not a database" * 100)
    with pytest.raises(MullError, match="no run database"):
        RunStore.open(tmp_path)


def test_samples_share_their_seed_across_settings_only(plan):
    seeds = {plan.sample_seed(q.id, i) for q in plan.benchmark.questions() for i in range(50)}
    assert len(seeds) == 7 * 50
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert replace(plan, seed=1).sample_seed("q", 0) != plan.sample_seed("q", 0)


def test_a_run_can_be_read_where_nothing_can_be_written(plan, tmp_path):
    run = tmp_path / "run with spaces & ?"
    with RunStore.record(run, plan, {}) as store:
        store.add(sample())
    copy = tmp_path / "archive"
    copy.mkdir()
    shutil.copy(run / "run.sqlite", copy)
    copy.chmod(0o555)
    try:
        with RunStore.open(copy) as store:
            assert store.samples() == [sample()]
            assert store.count() == 1
            with pytest.raises(MullError, match="cannot write"):
                store.add(sample(index=5))
    finally:
        copy.chmod(0o755)
    assert {path.name for path in copy.iterdir()} <= {"run.sqlite", "run.sqlite-wal", "run.sqlite-shm"}


def test_a_damaged_page_is_named(plan, tmp_path):
    with RunStore.record(tmp_path / "run", plan, {}) as store:
        for i in range(300):
            store.add(sample(index=i, text="x" * 500))
    path = tmp_path / "run" / "run.sqlite"
    content = bytearray(path.read_bytes())
    for page in range(8192, len(content) - 4096, 4096):
        content[page : page + 64] = b"\xff" * 64
    path.write_bytes(content)
    with pytest.raises(MullError, match="is damaged"), RunStore.open(tmp_path / "run") as store:
        store.samples()


def test_texts_can_be_left_out(plan, tmp_path):
    with RunStore.record(tmp_path / "run", plan, {}) as store:
        store.add(sample())
        assert store.samples(texts=False) == [sample(text="")]


def test_another_programs_database_is_left_alone(plan, tmp_path):
    path = tmp_path / "run.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE bookmarks (url TEXT)")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(MullError, match="another program's database"), RunStore.record(tmp_path, plan, {}):
        pass
    with pytest.raises(MullError, match="holds no run"):
        RunStore.open(tmp_path)
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT name FROM sqlite_schema").fetchall() == [("bookmarks",)]
    connection.close()
    assert len(path.read_bytes()) == len(before)


def test_an_empty_file_holds_no_run(tmp_path):
    (tmp_path / "run.sqlite").touch()
    with pytest.raises(MullError, match="holds no run"):
        RunStore.open(tmp_path)


def without_study(connection):
    record = json.loads(connection.execute("SELECT value FROM meta WHERE key = 'plan'").fetchone()[0])
    del record["study"]
    connection.execute("UPDATE meta SET value = ? WHERE key = 'plan'", (json.dumps(record),))


def without_scores(connection):
    connection.execute("ALTER TABLE samples DROP COLUMN scores")


@pytest.mark.parametrize("lacking", [without_study, without_scores])
def test_a_run_of_an_earlier_version_is_refused_in_a_sentence(plan, tmp_path, lacking):
    run = tmp_path / "run"
    with RunStore.record(run, plan, provenance(plan)) as store:
        store.add(sample())
    with sqlite3.connect(run / "run.sqlite") as connection:
        lacking(connection)
    connection.close()
    for opening in (RunStore.record(run, plan, provenance(plan)), RunStore.amend(run)):
        with pytest.raises(MullError, match="recorded by an earlier mull"), opening:
            pass
    with pytest.raises(MullError, match="recorded by an earlier mull"):
        RunStore.open(run)


def write_and_die(folder, plan):
    with RunStore.record(folder, plan, {}) as store:
        store.add(sample())
        store._database._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        store.add(sample(index=1))
        os._exit(0)


@pytest.fixture
def killed(plan, tmp_path):
    """A run whose last sample is in the write-ahead log only, because its process was killed."""
    folder = tmp_path / "run"
    process = multiprocessing.get_context("fork").Process(target=write_and_die, args=(folder, plan))
    process.start()
    process.join()
    assert (folder / "run.sqlite-wal").stat().st_size
    return folder


def test_samples_in_the_log_are_read_where_nothing_can_be_written(killed):
    """A folder in the place of the file for shared memory keeps SQLite from making that, as a read-only mount does."""
    (killed / "run.sqlite-shm").unlink()
    (killed / "run.sqlite-shm").mkdir()
    before = {path.name: path.read_bytes() for path in killed.glob("run.sqlite*") if path.is_file()}
    with RunStore.open(killed) as store:
        assert store.samples() == [sample(), sample(index=1)]
    assert {path.name: path.read_bytes() for path in killed.glob("run.sqlite*") if path.is_file()} == before


def test_a_database_that_another_program_has_locked_is_refused(plan, tmp_path, monkeypatch):
    monkeypatch.setattr(database, "WAIT", 0.05)
    with RunStore.record(tmp_path / "run", plan, {}) as store:
        store.add(sample())
    other = sqlite3.connect(tmp_path / "run" / "run.sqlite")
    other.execute("PRAGMA locking_mode = EXCLUSIVE")
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(MullError, match=r"is locked by another process.*Wait until"):
        RunStore.open(tmp_path / "run")
    other.close()
    with RunStore.open(tmp_path / "run") as store:
        assert store.samples() == [sample()]


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_without_locks_is_named_with_the_remedy(plan, tmp_path, monkeypatch, number):
    def refuse(*arguments):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with (
        pytest.raises(MullError, match=r"run cannot be locked.*Choose a folder on a local disk"),
        RunStore.record(tmp_path / "run", plan, {}),
    ):
        pass


def test_a_file_system_without_locks_for_sqlite_is_named_with_the_remedy(tmp_path):
    error = sqlite3.OperationalError("locking protocol")
    error.sqlite_errorname = "SQLITE_PROTOCOL"
    said = database._refusal(tmp_path / "run.sqlite", error, opening=True)
    assert "run.sqlite cannot be read or written (locking protocol)" in said.what and "local disk" in said.remedy


def change(run, statement, *values):
    with sqlite3.connect(run / "run.sqlite") as connection:
        connection.execute(statement, values)
    connection.close()


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("lam", "high"), ("lam", 1e999), ("index", "first"), ("index", -1), ("tokens", -3), ("tokens", 2.5),
        ("tokens", None), ("prompt_tokens", "many"), ("thought_tokens", -1), ("seed", "x"), ("seconds", None),
        ("seconds", 1e999), ("correct", 2), ("correct", None), ("finish", "maybe"), ("thinking", "loud"),
        ("text", None), ("text", b"\xff"), ("answer", 7.5), ("stratum", None), ("benchmark", None), ("scores", "{"),
        ("scores", "[1]"), ("scores", '{"a": "b"}'), ("scores", "[" * 100_000),
    ],
)  # fmt: skip
def test_a_wrong_value_is_refused_and_not_skipped(plan, tmp_path, column, value):
    run = tmp_path / "run"
    with RunStore.record(run, plan, {}) as store:
        store.add(sample())
        store.add(sample(question="q2"))
    change(run, f"UPDATE samples SET \"{column}\" = ? WHERE question = 'q2'", value)
    if column == "answer":  # a text column turns numbers into text
        change(run, "UPDATE samples SET answer = CAST('7' AS BLOB) WHERE question = 'q2'")
    with RunStore.open(run) as store:
        for texts in (True, False):
            with pytest.raises(MullError, match=r"run.sqlite is damaged"):
                store.samples(texts=texts)
        with pytest.raises(MullError, match=r"run.sqlite is damaged"):
            write_parquet(store, tmp_path / "x.parquet")
    assert not (tmp_path / "x.parquet").exists()


@pytest.mark.parametrize("key", ["plan", "questions"])
@pytest.mark.parametrize("value", [None, "", "{", "5", "[]", '{"k": 1}', "[" * 100_000, b"\xff\xfe"])
def test_a_wrong_plan_is_refused(plan, tmp_path, key, value):
    run = tmp_path / "run"
    with RunStore.record(run, plan, {}):
        pass
    change(run, "UPDATE meta SET value = ? WHERE key = ?", value, key)
    with pytest.raises(MullError, match="is damaged"):
        RunStore.open(run).questions  # noqa: B018


def test_an_export_to_a_full_disk_is_refused_and_leaves_nothing(plan, tmp_path, monkeypatch):
    with RunStore.record(tmp_path / "run", plan, {}) as store:
        store.add(sample())

        @contextmanager
        def full(path):
            yield Path("/dev/full")

        monkeypatch.setattr(frames, "whole_file", full)
        with pytest.raises(MullError, match=r"cannot write .*x.parquet.*Free space"):
            write_parquet(store, tmp_path / "x.parquet")
    with pytest.raises(MullError, match=r"cannot write .*: No such file"), whole_file(tmp_path / "none" / "x"):
        pass
