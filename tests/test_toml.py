"""TOML files as dataclasses: what the hints allow, and how the place of a mistake is named."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from mull.errors import MullError
from mull.toml import LARGEST, entry, read_toml


@dataclass(kw_only=True)
class Part:
    lambda_: float = entry("lambda = 0.4")
    tags: tuple[str, ...] = entry('tags = ["a"]', default=())


@dataclass(kw_only=True)
class Whole:
    name: str = entry('name = "x"')
    count: int | None = entry("count = 3", default=None)
    on: bool = entry("on = true", default=False)
    main: Part | None = entry("[main]", default=None)
    part: tuple[Part, ...] = entry("[[part]]", default=())
    more: dict[str, int] | None = entry("more = {}", default=None)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "file.toml"


def test_tables_become_dataclasses(path):
    path.write_text(
        "name = 'a'\ncount = 2\non = true\nmore = {x = 1}\n[main]\nlambda = 1\n"
        "[[part]]\nlambda = 0.5\ntags = ['b', 'c']\n[[part]]\nlambda = 2\n"
    )
    assert read_toml(path, Whole) == Whole(
        name="a",
        count=2,
        on=True,
        more={"x": 1},
        main=Part(lambda_=1),
        part=(Part(lambda_=0.5, tags=("b", "c")), Part(lambda_=2)),
    )
    path.write_text("name = 'a'")
    assert read_toml(path, Whole) == Whole(name="a")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", 'name is missing. Write name = "x"'),
        ("nam = 'a'", "unknown key 'nam'. Did you mean 'name'?"),
        ("name = 1", 'name must be a text, got 1. Write name = "x"'),
        ("name = 'a'\ncount = 1.5", "count must be a whole number, got 1.5"),
        ("name = 'a'\ncount = true", "count must be a whole number, got True"),
        ("name = 'a'\non = 1", "on must be true or false, got 1"),
        ("name = 'a'\nmore = 1", "more must be a table, got 1"),
        ("name = 'a'\nmain = 1", "main must be a table, got 1"),
        ("name = 'a'\n[main]\nlamda = 1", "main: unknown key 'lamda'. Did you mean 'lambda'?"),
        ("name = 'a'\n[part]\nlambda = 1", "part must be an array, got {'lambda': 1}. Write [[part]]"),
        ("name = 'a'\n[[part]]\nlambda = 1\n[[part]]\ntags = ['a']", "part 2: lambda is missing"),
        ("name = 'a'\n[[part]]\nlambda = 1\ntags = ['a', 2]", "part 1: tags must be a text, got 2"),
    ],
)
def test_a_mistake_is_named_with_file_table_and_key(path, text, said):
    path.write_text(text)
    with pytest.raises(MullError) as error:
        read_toml(path, Whole)
    assert str(error.value).startswith(f"{path}: {said}")


@pytest.mark.parametrize("text", ["name = ", "name = 'a'\nname = 'b'", "more = " + "[" * 100_000])
def test_what_is_no_toml(path, text):
    path.write_text(text)
    with pytest.raises(MullError, match="is no TOML file"):
        read_toml(path, Whole)


def test_a_large_file_is_not_read_to_its_end(path):
    path.write_text("# " + "x" * LARGEST)
    with pytest.raises(MullError, match="more than 1,048,576 bytes"):
        read_toml(path, Whole)
