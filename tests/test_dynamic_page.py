"""docs/dynamic.md: its examples run as they stand, what they define fits the protocol, and its commands exist."""

import pickle
import re
from pathlib import Path

import pytest

from mull.dynamic.base import Choice

DOCS = Path(__file__).parent.parent / "docs"
PAGE = (DOCS / "dynamic.md").read_text()


@pytest.fixture(scope="module")
def names():
    """What the examples leave behind."""
    found: dict = {"__name__": "examples"}
    for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
        exec(compile(block, "docs/dynamic.md", "exec"), found)
    return found


def test_the_examples_run(names):
    assert names["sure"] < names["unsure"]
    assert isinstance(names["choice"], Choice) and names["choice"].cost.prefilled > len(names["prompt"])
    assert names["response"].tokens > 0
    for estimator in (names["estimator"], names["mine"]):
        first, again = (estimator.choose(names["signals"]) for _ in range(2))
        assert first == again and 0 <= first.lam <= 1 and first.why
    sent = pickle.loads(pickle.dumps(names["estimator"]))
    assert sent.choose(names["signals"]) == names["choice"]


def test_its_commands_and_links_exist():
    reference = (DOCS / "cli.md").read_text()
    blocks = "\n".join(re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL))
    verbs = re.findall(r"^mull (route \w+|\w+)", blocks, re.MULTILINE)
    assert {"route train", "route eval", "route explain", "headroom", "sweep", "paper"} <= set(verbs)
    for verb in verbs:
        section = reference.split(f"\n## mull {verb}\n")[1].split("\n## mull ")[0]
        lines = [line for line in blocks.splitlines() if line.startswith(f"mull {verb} ")]
        for option in re.findall(r" (--[a-z-]+)", "\n".join(lines)):
            assert f"`{option}`" in section or f"`{option}" in section, (verb, option)
    for link in re.findall(r"\]\((?!http)([^)#]+)", PAGE):
        assert (DOCS / link).is_file(), link
