"""Reads YAML from strangers: plain data only, of bounded size, depth and repetition.

PyYAML's safe loader makes no Python objects. What is checked here besides: a few lines of aliases can stand for
billions of entries, deep nesting exhausts the stack, and of two equal keys the loader would silently take the last.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from mull.errors import MullError, naming

LARGEST = 1 << 20
"""Bytes of a file. Nobody writes more by hand."""
DEEPEST = 20
MOST = 100_000
"""Entries of a file, each alias counted as what it stands for."""
_Anchored = dict[str, int]


def read_yaml(path: Path) -> dict[str, Any]:
    """The one mapping in the file, without entries whose value is empty.

    Raises:
        MullError: the file cannot be read, is no YAML, holds more than plain data, or exceeds a limit.
    """
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST + 1)
    except OSError as error:
        raise MullError(f"cannot read {path}: {error.strerror}", "give the path of a YAML file") from None
    with naming(path):
        if len(data) > LARGEST:
            raise MullError(f"more than {LARGEST:,} bytes", "give a smaller YAML file")
        try:
            text = data.decode("utf-8-sig")
            _check_size(text)
            found = list(yaml.load_all(text, _Loader))  # a subclass of SafeLoader
        except UnicodeDecodeError:
            raise MullError("no YAML file: it is not UTF-8 text", "save it as UTF-8") from None
        except yaml.constructor.ConstructorError as error:
            raise MullError(_said(error), "a recipe is plain data: mappings, lists, texts and numbers") from None
        except yaml.YAMLError as error:
            raise MullError(f"no YAML file: {_said(error)}", "check the indentation and the quotes") from None
        except (ValueError, RecursionError, OverflowError) as error:  # dates that there are not, huge numbers
            raise MullError(f"no YAML file: {error}", "put the value in quotes") from None
        if len(found) > 1:
            raise MullError(f"{len(found)} documents in one file", "give each merge a file of its own")
        if not found or not isinstance(found[0], dict):
            raise MullError("no mapping of keys to values", "write keys at the left edge, as in merge_method: ties")
        return _without_empty(found[0])


class _Loader(yaml.SafeLoader):
    """Refuses keys that are given twice, or are no texts."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        given: set[str] = set()
        for key, _ in node.value:
            where = f"in line {key.start_mark.line + 1}"
            if key.tag == "tag:yaml.org,2002:merge":
                continue
            if key.tag != "tag:yaml.org,2002:str":
                raise MullError(f"a key {where} is no text", "put it in quotes")
            if key.value in given:
                raise MullError(f"{key.value} is given twice {where}", "give it once")
            given.add(key.value)
        return super().construct_mapping(node, deep)


def _check_size(text: str) -> None:
    """Raise MullError for too many entries or too deep nesting, from events alone, before anything is made of them."""
    anchored: _Anchored = {}
    opened: list[tuple[str | None, int]] = [(None, 0)]
    total = 0
    for event in yaml.parse(text, yaml.SafeLoader):
        size = 1
        if isinstance(event, yaml.CollectionStartEvent):
            opened.append((event.anchor, 1))
            if len(opened) > DEEPEST + 1:
                raise MullError(f"nested more than {DEEPEST} deep", "write it flatter")
            continue
        if isinstance(event, yaml.CollectionEndEvent):
            anchor, size = opened.pop()
            if anchor is not None:
                anchored[anchor] = size
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor not in anchored:  # unknown, or within itself
                raise MullError(f"the alias *{event.anchor} stands for nothing complete", "write its value out")
            size = anchored[event.anchor]
        elif isinstance(event, yaml.ScalarEvent):
            if event.anchor is not None:
                anchored[event.anchor] = 1
        else:
            continue
        anchor, before = opened.pop()
        opened.append((anchor, before + size))
        total = max(total, before + size)
        if total > MOST:
            raise MullError(f"more than {MOST:,} entries, counting what aliases stand for", "give a smaller file")


def _without_empty(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_empty(each) for key, each in value.items() if each is not None}
    return [_without_empty(each) for each in value] if isinstance(value, list) else value


def _said(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error).splitlines()[0]
    return f"{problem} in line {mark.line + 1}" if mark else problem
