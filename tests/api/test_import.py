"""`import mull` loads nothing heavy, offers what it says, and is typed."""

import subprocess
import sys
import tomllib
from pathlib import Path

import mull

ROOT = Path(__file__).parent.parent.parent
HEAVY = ["torch", "transformers", "polars", "numpy", "scipy", "altair", "typer", "rich", "IPython"]


def test_it_imports_nothing_heavy():
    asked = f"import sys, mull; dir(mull); print([name for name in {HEAVY} if name in sys.modules])"
    said = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    assert said.stdout == "[]\n"


def test_a_pair_is_checked_without_torch():
    asked = (
        "import sys, mull; pair = mull.Pair.built_in(); pair.check(); repr(pair); pair._repr_html_();"
        "print([name for name in ('torch', 'transformers', 'polars') if name in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    assert said.stdout == "[]\n"


def test_every_name_is_there_has_a_docstring_and_comes_from_where_types_say():
    assert set(mull.__all__) == {name for names in mull._HOMES.values() for name in names} <= set(dir(mull))
    source = Path(mull.__file__).read_text()
    for module, names in mull._HOMES.items():
        for name in names:
            assert getattr(mull, name).__doc__, name
        assert f"from {module} import {', '.join(names)}" in source


def test_a_name_that_is_not_there_is_an_attribute_error():
    assert not hasattr(mull, "Merge")


def test_types_are_shipped():
    assert (Path(mull.__file__).parent / "py.typed").is_file()
    data = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["mull"]
    assert "py.typed" in data


def test_public_methods_say_what_they_do():
    for kind in (mull.Pair, mull.Run, mull.Choice, mull.Model, mull.Reply):
        for name, member in vars(kind).items():
            if not name.startswith("_") and (callable(member) or isinstance(member, property)):
                assert member.__doc__, f"{kind.__name__}.{name}"
