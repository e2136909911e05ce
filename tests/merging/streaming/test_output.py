"""The output folder: complete or not there, never mixed with anything older, never taken from another."""

import errno
import fcntl
import itertools
import json
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch

from mull.checkpoints import blocks
from mull.checkpoints.blocks import Files
from mull.checkpoints.checkpoint import Checkpoint
from mull.errors import MullError
from mull.folders import LOCK, locked
from mull.merging.arithmetic import operations
from mull.merging.coefficients import Coefficients
from mull.merging.methods import make
from mull.merging.streaming import output, plan, shards, stream
from mull.merging.streaming.plan import MergePlan, plan_merge
from mull.merging.streaming.stream import merge, merge_all

Planned = Callable[..., Any]


def left_behind(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {"instruct", "thinking"}


def interrupted(plan: Any, out: Path, monkeypatch: pytest.MonkeyPatch, *, after: int) -> Path:
    """The partial folder of a merge that is stopped when `after` shards are finished, as a kill would leave it."""
    write, count = stream.write_shard, 0

    def stop(*args: Any) -> None:
        nonlocal count
        if count == after:
            raise KeyboardInterrupt
        count += 1
        write(*args)

    with monkeypatch.context() as patch:
        patch.setattr(stream, "write_shard", stop)
        with pytest.raises(KeyboardInterrupt):
            merge(plan, out)
    return output.partial_folder(out)


def test_an_output_that_exists(planned: Planned, tmp_path: Path, digests: Callable) -> None:
    job = planned(0.8)
    out = merge(job, tmp_path / "out")
    before = digests(out)
    (out / "old.txt").write_text("")
    with pytest.raises(MullError, match="--overwrite"):
        merge(job, out)
    assert digests(merge(job, out, overwrite=True)) == before
    assert left_behind(tmp_path) == {"out"}


def test_an_empty_folder_is_no_output_yet(planned: Planned, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    merge(planned(0.8), tmp_path / "out")
    assert Checkpoint(tmp_path / "out").tensors


@pytest.mark.parametrize("files", [["notes.txt"], ["config.json"], ["model.safetensors"], ["config.json", "main.c"]])
def test_only_a_model_folder_is_replaced(planned: Planned, tmp_path: Path, files: list[str]) -> None:
    (tmp_path / "out").mkdir()
    for name in files:
        (tmp_path / "out" / name).write_text("{}")
    with pytest.raises(MullError, match="not a model folder"):
        merge(planned(0.8), tmp_path / "out", overwrite=True)
    assert left_behind(tmp_path) == {"out"}


def test_the_inputs_are_never_the_output(planned: Planned, tmp_path: Path) -> None:
    job = planned(0.8)
    (tmp_path / "link").symlink_to(job.group.instruct.folder)
    inputs = (job.group.instruct.folder, job.group.thinking.folder)
    for out in (*inputs, tmp_path, tmp_path / "link", tmp_path / "x" / ".."):
        with pytest.raises(MullError, match="holds the input"):
            merge(job, out, overwrite=True)
    job.group.base = Checkpoint(shutil.copytree(job.group.instruct.folder, tmp_path / "base"))
    with pytest.raises(MullError, match="holds the input"):
        merge(job, tmp_path / "base", overwrite=True)
    (tmp_path / "file").write_text("")
    with pytest.raises(MullError, match="is a file"):
        merge(job, tmp_path / "file")


def test_a_place_that_cannot_be_written(planned: Planned, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(MullError, match="would lie in the file"):
        merge(planned(0.8), tmp_path / "file" / "out")


def test_a_second_merge_into_one_folder(planned: Planned, tmp_path: Path) -> None:
    job = planned(0.8, thinking={"shards": 3})
    refused = []

    def progress(_: int) -> None:
        with pytest.raises(MullError, match="another merge") as error:
            merge(job, tmp_path / "out")
        refused.append(error)

    merge(job, tmp_path / "out", threads=1, progress=progress)
    assert refused
    assert left_behind(tmp_path) == {"out"}


@pytest.mark.parametrize("third", [False, True])
def test_a_lock_that_went_away_with_its_folder_is_no_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, third: bool
) -> None:
    """One merge opens the lock; the one who held it finishes and renames the folder; then the lock is free.

    A third may have begun a new folder by then.
    """
    flock = fcntl.flock

    def finish_first(lock: Any, operation: int) -> None:
        (tmp_path / ".out.partial").rename(tmp_path / "out")
        if third:
            (tmp_path / ".out.partial").mkdir()
            (tmp_path / ".out.partial" / LOCK).touch()
        flock(lock, operation)

    monkeypatch.setattr(fcntl, "flock", finish_first)
    with (
        pytest.raises(MullError, match="another merge"),
        locked(tmp_path / ".out.partial", output.busy_error(tmp_path / "out")),
    ):
        pytest.fail("two merges believe that the folder is theirs")


def test_finished_shards_are_kept_and_the_result_is_the_same(
    planned: Planned, tmp_path: Path, digests: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = planned(0.8, thinking={"shards": 4})
    wanted = digests(merge(job, tmp_path / "wanted"))
    partial = interrupted(job, tmp_path / "out", monkeypatch, after=2)
    finished = partial / "model-00001-of-00004.safetensors"
    inode, changed = finished.stat().st_ino, finished.stat().st_mtime_ns
    (partial / "README.md").write_text("of an earlier attempt")
    told: list[int] = []
    out = merge(job, tmp_path / "out", progress=told.append)
    assert digests(out) == wanted
    kept = (out / finished.name).stat()
    assert (kept.st_ino, kept.st_mtime_ns) == (inode, changed)
    assert told[0] == job.shards[0].nbytes
    assert sum(told) == job.nbytes
    assert left_behind(tmp_path) == {"out", "wanted"}


def test_nothing_is_kept_of_a_merge_that_had_finished_nothing(planned: Planned, tmp_path: Path, monkeypatch) -> None:
    interrupted(planned(0.8, thinking={"shards": 3}), tmp_path / "out", monkeypatch, after=0)
    assert left_behind(tmp_path) == set()


def test_another_plans_leftovers_are_not_mixed_in(
    planned: Planned, tmp_path: Path, digests: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = planned(0.8, thinking={"shards": 4})
    partial = interrupted(first, tmp_path / "out", monkeypatch, after=3)
    (partial / "folder").mkdir()
    other = plan_merge(first.group, Coefficients.scalar(0.2))
    assert digests(merge(other, tmp_path / "out")) == digests(merge(other, tmp_path / "wanted"))


@pytest.mark.parametrize(
    "journal", ["", "[]", "{}", '{"digest": "DIGEST", "done": 3}', '{"digest": "DIGEST", "done": ["x"]}']
)
def test_a_damaged_journal_is_no_journal(
    planned: Planned, tmp_path: Path, digests: Callable, monkeypatch: pytest.MonkeyPatch, journal: str
) -> None:
    job = planned(0.8, thinking={"shards": 4})
    partial = interrupted(job, tmp_path / "out", monkeypatch, after=2)
    (partial / output._JOURNAL).write_text(journal.replace("DIGEST", job.digest))
    (partial / "model-00001-of-00004.safetensors").write_bytes(b"\0" * job.shards[0].nbytes)
    assert digests(merge(job, tmp_path / "out")) == digests(merge(job, tmp_path / "wanted"))


def test_a_finished_shard_of_the_wrong_size_is_written_again(
    planned: Planned, tmp_path: Path, digests: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = planned(0.8, thinking={"shards": 4})
    partial = interrupted(job, tmp_path / "out", monkeypatch, after=2)
    os.truncate(partial / "model-00001-of-00004.safetensors", 100)
    assert digests(merge(job, tmp_path / "out")) == digests(merge(job, tmp_path / "wanted"))


@pytest.mark.parametrize("threads", [1, 4])
def test_the_disk_begins_early_and_with_everything_once(
    planned: Planned, tmp_path: Path, digests: Callable, monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    job = planned(0.8, thinking={"shards": 2})
    wanted = digests(merge(job, tmp_path / "wanted"))
    asked: dict[int, list[tuple[int, int]]] = {}

    def write_back(descriptor: int, offset: int, length: int) -> None:
        asked.setdefault(os.fstat(descriptor).st_ino, []).append((offset, length))
        blocks.write_back(descriptor, offset, length)

    monkeypatch.setattr(shards, "write_back", write_back)
    monkeypatch.setattr(shards, "_DIRTY", 1000)
    out, seen = merge(job, tmp_path / "out", threads=threads), 0
    assert digests(out) == wanted
    for file in out.glob("*.safetensors"):
        ranges = sorted(asked.pop(file.stat().st_ino, []))
        ends = [0, *(offset + length for offset, length in ranges)]
        assert [offset for offset, _ in ranges] == ends[:-1]
        assert 0 <= file.stat().st_size - ends[-1] < 1000 and all(length >= 1000 for _, length in ranges)
        seen += len(ranges)
    assert seen > 1 and not asked


def test_an_input_that_is_shorter_than_it_was(planned: Planned, tmp_path: Path, way: str) -> None:
    job = planned(0.8)
    source = job.group.instruct.folder / "model.safetensors"
    os.truncate(source, source.stat().st_size - 1500)
    with pytest.raises(MullError, match="became shorter"):
        merge(job, tmp_path / "out")
    assert left_behind(tmp_path) == set()


@pytest.mark.parametrize("method", ["mi", "slerp"])
@pytest.mark.parametrize("threads", [1, 4])
def test_an_input_that_is_cut_while_it_is_read(
    planned: Planned, tmp_path: Path, method: str, threads: int, way: str
) -> None:
    job = planned(0.8, method=make(method))
    source = job.group.thinking.folder / "model.safetensors"

    def cut(_: int) -> None:
        os.truncate(source, 4000)

    with pytest.raises(MullError, match=r"model\.safetensors became shorter while it was read"):
        merge(job, tmp_path / "out", threads=threads, progress=cut)
    assert left_behind(tmp_path) == set()


@pytest.mark.parametrize("side", ["instruct", "thinking"])
def test_an_input_that_changes_or_goes_while_it_is_read(planned: Planned, tmp_path: Path, side: str, way: str) -> None:
    job = planned(0.8, thinking={"shards": 2})
    source = sorted((tmp_path / side).glob("*.safetensors"))[-1]

    def change(_: int) -> None:
        with source.open("r+b") as file:
            file.seek(-2, os.SEEK_END)
            file.write(b"\x01\x02")

    with pytest.raises(MullError, match=f"{source.name} changed"):
        merge(job, tmp_path / "out", progress=change)
    assert left_behind(tmp_path) == set()
    job = plan_merge(job.group, job.coefficients)
    with pytest.raises(MullError, match=f"{source.name}( changed|: No such file)"):
        merge(job, tmp_path / "out", progress=lambda _: source.unlink(missing_ok=True))
    assert not (tmp_path / "out").exists()


def test_an_input_that_changed_since_the_plan(planned: Planned, tmp_path: Path) -> None:
    job = planned(0.8)
    os.utime(job.group.thinking.folder / "model.safetensors")
    with pytest.raises(MullError, match="changed"):
        merge(job, tmp_path / "out")


def test_an_input_that_cannot_be_opened(tmp_path: Path) -> None:
    with Files() as files, pytest.raises(MullError, match="cannot read"):
        files.open(tmp_path / "none")


def test_the_old_model_stays_if_the_new_one_cannot_take_its_place(
    planned: Planned, tmp_path: Path, digests: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = planned(0.8)
    out = merge(job, tmp_path / "out")
    before = digests(out)
    rename = Path.rename

    def fail(self: Path, target: Path) -> Path:
        if self.name.endswith(".partial"):
            raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(KeyboardInterrupt):
        merge(plan_merge(job.group, Coefficients.scalar(0.3)), out, overwrite=True)
    assert digests(out) == before


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("step", range(1, 8))
def test_a_kill_at_any_step_of_the_last_renames(
    planned: Planned, tmp_path: Path, digests: Callable, monkeypatch: pytest.MonkeyPatch, step: int, overwrite: bool
) -> None:
    """The output never shows lock or journal, and the same command finishes what was written."""
    job = planned(0.8)
    wanted = digests(merge(job, tmp_path / "wanted"))
    out = tmp_path / "out"
    if overwrite:
        merge(plan_merge(job.group, Coefficients.scalar(0.3)), out)
    steps = iter(range(1, 100))
    swapping = False

    def counted(function: Callable) -> Callable:
        def call(*arguments: Any, **options: Any) -> Any:
            if swapping and next(steps) == step:
                raise SystemExit(9)  # before the step, so that steps 1 to n stop between all of them
            return function(*arguments, **options)

        return call

    swap_in = output.swap_in

    def begin(*arguments: Any) -> None:
        nonlocal swapping
        swapping = True
        swap_in(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(output, "swap_in", begin)
        patch.setattr(Path, "rename", counted(Path.rename))
        patch.setattr(Path, "unlink", counted(Path.unlink))
        patch.setattr(output, "_sync", counted(output._sync))
        with suppress(SystemExit):
            merge(job, out, overwrite=overwrite)
    if out.exists():
        assert not {".lock", ".journal.json"} & {path.name for path in out.iterdir()}
    if not out.exists() or digests(out) != wanted:
        merge(job, out, overwrite=overwrite)
    assert digests(out) == wanted


def test_too_little_space_is_seen_before_the_first_byte(planned: Planned, tmp_path: Path, monkeypatch) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(plan.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(MullError, match="not enough disk space"):
        merge(planned(0.8), tmp_path / "new" / "out")
    assert left_behind(tmp_path) == set()


def test_companions_called_as_our_own_files_survive(planned: Planned, tmp_path: Path) -> None:
    job = planned(0.8)
    for name in ("lock", "journal.json"):
        (job.group.thinking.folder / name).write_text(json.dumps(name))
    out = merge(job, tmp_path / "out")
    assert (out / "lock").read_text() == '"lock"'
    assert (out / "journal.json").read_text() == '"journal.json"'
    assert torch.isfinite(Checkpoint(out).tensor("model.norm.weight")).all()


def test_an_input_that_changes_with_the_same_size_and_time_is_found_by_hash(
    planned: Planned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = planned(0.8)
    source = job.group.instruct.folder / "model.safetensors"

    def change(plan: MergePlan) -> None:
        stat = source.stat()
        content = bytearray(source.read_bytes())
        content[-2] ^= 1  # one unit in the last place: too little for the self-check
        source.write_bytes(content)
        os.utime(source, ns=(stat.st_atime_ns, stat.st_mtime_ns))

    monkeypatch.setattr(MergePlan, "check_unchanged", change)
    with pytest.raises(MullError, match="changed while it was read, though not in size"):
        merge(job, tmp_path / "out", hash_inputs=True)
    assert not (tmp_path / "out").exists()
    merge(job, tmp_path / "out")  # without --hash it cannot be seen


@pytest.mark.parametrize("reads", [1, 5])
def test_a_read_error_midway(planned: Planned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reads: int) -> None:
    monkeypatch.setattr(blocks, "compiled", None)
    job = planned(0.8, thinking={"shards": 2})
    preadv, count = os.preadv, itertools.count()

    def failing(*arguments: Any) -> int:
        if next(count) >= reads:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return preadv(*arguments)

    monkeypatch.setattr(os, "preadv", failing)
    with pytest.raises(MullError, match=r"cannot read .*Input/output error"):
        merge(job, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    monkeypatch.setattr(os, "preadv", preadv)
    merge(job, tmp_path / "out")


@pytest.mark.parametrize("method", [make("slerp"), make("nuslerp", {"per": "tensor"})], ids=lambda method: method.name)
def test_an_input_that_is_cut_while_it_is_measured(
    planned: Planned, tmp_path: Path, method: Any, cut_when_seen: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = planned(0.8, method=method)
    cut_when_seen(job.group.thinking.folder / "model.safetensors")
    monkeypatch.delattr(stream, "write_shard")  # not reached
    with pytest.raises(MullError, match="became shorter while it was read"):
        merge(job, tmp_path / "out")
    assert left_behind(tmp_path) == set()


@pytest.mark.parametrize("threads", [1, 4])
def test_an_input_that_fails_for_a_moment(
    planned: Planned, tmp_path: Path, digests: Callable, threads: int, mapped: None
) -> None:
    """Cut and made whole again between two looks, with its old times: what was seen of it then counts for nothing."""
    job = planned(0.8, thinking={"shards": 2})
    wanted = digests(merge(job, tmp_path / "wanted"))
    source = job.group.instruct.folder / "model.safetensors"
    content, stat = source.read_bytes(), source.stat()
    interpolate, calls = operations.Interpolation.apply, itertools.count()

    def failing(self: Any, models: list[torch.Tensor], *others: Any) -> None:
        if next(calls) == 3:
            os.truncate(source, 0)
            interpolate(self, models, *others)
            source.write_bytes(content)
            os.utime(source, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        else:
            interpolate(self, models, *others)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(operations.Interpolation, "apply", failing)
        with pytest.raises(MullError, match=r"cannot read .*: Input/output error|became shorter while it was read"):
            merge(job, tmp_path / "out", threads=threads)
    assert not (tmp_path / "out").exists()
    assert digests(merge(job, tmp_path / "out")) == wanted


def test_a_run_of_several_killed_between_its_last_renames_goes_on(
    planned: Planned, tmp_path: Path, digests: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = planned(0.2)
    plans = [first, plan_merge(first.group, Coefficients.scalar(0.6))]
    wanted = [digests(out) for out in merge_all(plans, [tmp_path / "a", tmp_path / "b"])]
    outs = [tmp_path / "c", tmp_path / "d"]
    swap = output.swap_in

    def once(partial: Path, out: Path) -> None:
        if out.name == "d":
            raise KeyboardInterrupt
        swap(partial, out)

    monkeypatch.setattr(output, "swap_in", once)
    with pytest.raises(KeyboardInterrupt):
        merge_all(plans, outs)
    assert outs[0].exists() and not outs[1].exists()
    monkeypatch.setattr(output, "swap_in", swap)
    assert merge_all(plans, outs) == outs
    assert [digests(out) for out in outs] == wanted
    with pytest.raises(MullError, match="exists"):
        merge_all(plans, outs)


def test_what_a_run_of_several_is_given(planned: Planned, tmp_path: Path) -> None:
    job = planned(0.8)
    for plans, outs in (([], []), ([job], []), ([job], [tmp_path / "a", tmp_path / "b"])):
        with pytest.raises(MullError, match="Give one folder for each"):
            merge_all(plans, outs)
    for name in ("../evil.txt", "model.safetensors", ".lock", "a/b"):
        with pytest.raises(MullError, match="cannot be written beside the weights"):
            merge(job, tmp_path / "out", extra_files={name: "x"})
    assert left_behind(tmp_path) == set()


def test_a_companion_that_cannot_be_read_is_seen_first(planned: Planned, tmp_path: Path, monkeypatch) -> None:
    job = planned(0.8)
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != "tokenizer.json" and access(path, mode))
    with pytest.raises(MullError, match=r"cannot read .*tokenizer\.json"):
        merge(job, tmp_path / "out")
    assert left_behind(tmp_path) == set()


def test_the_top_of_a_file_system_is_no_output(planned: Planned, tmp_path: Path, monkeypatch) -> None:
    job = planned(0.8)
    with pytest.raises(MullError, match="top of a file system"):
        merge(job, Path("/"))
    monkeypatch.setattr(Path, "is_mount", lambda path: path.name == "mnt")
    (tmp_path / "mnt").mkdir()
    with pytest.raises(MullError, match="top of a file system"):
        merge(job, tmp_path / "mnt")
