"""docs/cli.md is what the commands say of themselves."""

from pathlib import Path

from mull.cli.reference import reference


def test_the_reference_is_current():
    written = (Path(__file__).parents[2] / "docs" / "cli.md").read_text(encoding="utf-8")
    assert written == reference(), "run `make docs`"
