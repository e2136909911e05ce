"""docs/scaling.md shows what its commands print. `make docs` writes their output anew."""

import re
import shlex
from pathlib import Path

import pytest

from tests.running import mull

PAGE = Path(__file__).parent.parent / "docs" / "scaling.md"
BLOCK = re.compile(r"```sh\n(mull plan [^\n]*)\n```\n\n```text\n(.*?)```\n", re.DOTALL)


def output(command: str, assumptions: bool) -> str:
    """What a command of the page prints; its assumptions, the same under every table, stand on the page once."""
    answer = mull(*shlex.split(command)[1:])
    assert answer.returncode == 0, answer.stderr
    lines = [line.rstrip() for line in answer.stdout.splitlines()]
    kept = [line for line in lines if assumptions or not line.startswith("assumed: ")]
    return "\n".join(kept).rstrip() + "\n"


def blocks() -> list[tuple[str, str]]:
    return BLOCK.findall(PAGE.read_text(encoding="utf-8"))


def test_the_page_has_the_commands_and_the_assumptions():
    found = blocks()
    assert len(found) >= 8
    assert ["assumed: " in shown for _, shown in found].count(True) == 1


@pytest.mark.parametrize("number", range(len(blocks())))
def test_the_page_shows_what_its_command_prints(number):
    command, shown = blocks()[number]
    assert shown == output(command, "assumed: " in shown), "run `make docs`"


def rewrite() -> None:
    """Put the commands' output into the page; the assumptions under the first."""
    first = iter((True,))

    def block(found: re.Match[str]) -> str:
        return f"```sh\n{found[1]}\n```\n\n```text\n{output(found[1], next(first, False))}```\n"

    PAGE.write_text(BLOCK.sub(block, PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    rewrite()
