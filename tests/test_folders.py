"""Folders that are whole or not there, and what is never replaced."""

import os
from pathlib import Path

import pytest

from mull.errors import MullError
from mull.folders import whole_folder, write_atomically


def write(out, text):
    with whole_folder(out) as partial:
        (partial / "sub").mkdir()
        write_atomically(partial / "sub" / "a.txt", text.encode())


@pytest.fixture
def out(tmp_path):
    write(tmp_path / "out", "old")
    return tmp_path / "out"


def test_a_folder_of_ours_is_replaced(out):
    write(out, "new")
    assert (out / "sub" / "a.txt").read_text() == "new"
    assert [path.name for path in out.parent.iterdir()] == ["out"]
    umask = os.umask(0)
    os.umask(umask)
    assert out.stat().st_mode & 0o777 == 0o777 & ~umask
    assert (out / "sub" / "a.txt").stat().st_mode & 0o777 == 0o666 & ~umask


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
@pytest.mark.parametrize("failing", [1, 2])
def test_an_interrupt_between_the_renames_loses_nothing(out, monkeypatch, error, failing):
    """The old folder goes aside, the new one in: whichever of the two fails, the old one is there after."""
    replace, calls = Path.replace, []

    def stop(self, target):
        if Path(self).is_dir():
            calls.append(self)
            if len(calls) == failing:
                raise error
        return replace(self, target)

    with monkeypatch.context() as patch, pytest.raises((KeyboardInterrupt, MullError)):
        patch.setattr(Path, "replace", stop)
        write(out, "new")
    assert (out / "sub" / "a.txt").read_text() == "old"
    assert [path.name for path in out.parent.iterdir()] == ["out"]


@pytest.mark.parametrize("kind", ["folder", "link to a folder", "link in place of a file", "folder in place of a file"])
def test_anything_else_in_it_keeps_a_folder(out, tmp_path_factory, kind):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    name = "sub/a.txt" if "in place" in kind else "mine"
    if "in place" in kind:
        (out / name).unlink()
    if "link" in kind:
        (out / name).symlink_to(elsewhere)
    else:
        (out / name).mkdir()
    with pytest.raises(MullError, match=rf"holds something else \({name}\)"):
        write(out, "new")
    assert (out / name).is_dir() and (out / "mull-files.json").is_file()
