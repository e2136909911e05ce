"""docs/cli.md is what the commands say of themselves."""

import re
from pathlib import Path

from mull.cli.reference import reference


def test_the_reference_is_current():
    written = (Path(__file__).parents[2] / "docs" / "cli.md").read_text(encoding="utf-8")
    assert written == reference(), "run `make docs`"


def test_commands_in_messages_and_help_have_the_options_that_they_name():
    sections = dict(re.findall(r"^## mull (\S+|route \S+)\n(.*?)(?=^## |\Z)", reference(), re.MULTILINE | re.DOTALL))
    options = {verb: set(re.findall(r"(?<=[`/])--?[a-z-]+", text)) for verb, text in sections.items()}
    source = Path(__file__).parents[2] / "src" / "mull"
    commands = {
        found
        for path in source.rglob("*.py")
        for found in re.findall(r"`mull (route [a-z]+|[a-z-]+)([^`\n]*)`", path.read_text())
    }
    own = {(verb, rest.partition(" -- ")[0]) for verb, rest in commands}  # what follows is for another program
    named = {(verb, option) for verb, rest in own for option in re.findall(r"(?<= )--?[a-z][a-z-]*", rest)}
    assert ("sweep", "--extrapolate") in named and ("compare", "--base") in named and ("route eval", "--head") in named
    assert {(verb, option) for verb, option in named if option not in options[verb]} == set()
