"""Warnings on a pair: one line for each, and one for all that the donor settles."""

import io

from rich.console import Console

from mull.checkpoints.findings import Finding
from mull.cli.rendering.warnings import print_warnings
from mull.tiny import checkpoint_folder

from ...running import mull


def test_what_the_donor_settles_is_one_line():
    console = Console(file=io.StringIO(), width=200)
    settled = [Finding("warn", code, f"different {code}", "the donor's") for code in ("chat-template", "eos", "eos")]
    print_warnings([Finding("warn", "dtype", "two dtypes", "give one"), *settled], console)
    assert console.file.getvalue().splitlines() == [
        "warning two dtypes → give one",
        "warning different chat templates and eos ids → the donor's are used; mull inspect shows both",
    ]


def test_a_sweep_warns_once_and_names_the_donor(tmp_path):
    ends = ("--instruct", checkpoint_folder("instruct"), "--thinking", checkpoint_folder("thinking"))
    done = mull("sweep", *ends, "--dry-run", "--run", tmp_path / "run")
    assert done.stderr.splitlines() == [
        "warning different chat templates → the donor's are used; mull inspect shows both",
        "donor of template, tokenizer and generation config: thinking",
    ]
    weighted = {f"{checkpoint_folder('instruct')}=0.25": 2, f"{checkpoint_folder('thinking')}=0.5": 1}
    models = [word for model, times in weighted.items() for word in ("--model", model) * times]
    done = mull("merge", *models, "--dry-run", "-o", tmp_path / "mixed")
    assert done.stderr.count("warning") == 1 and "chat templates and generation configs" in done.stderr
