"""The ends in `--model-loader-extra-config`."""

from __future__ import annotations

import pytest

from mull.engines.vllm.per_request.options import Options
from mull.errors import MullError


def test_the_donor_answers_where_no_lambda_is_named():
    ends = {"instruct": "a", "thinking": "b"}
    assert Options.of(ends).default_lambda == 1.0
    assert Options.of(ends | {"donor": "instruct"}).default_lambda == 0.0


def test_other_entries_are_for_vllms_loader():
    assert Options.of({"instruct": "a", "thinking": "b", "num_threads": 2}).others == {"num_threads": 2}


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        ({}, "instruct and thinking missing"),
        ({"instruct": "a"}, "thinking missing"),
        ({"instruct": "a", "thinking": 3}, "thinking missing"),
        ("text", "missing"),
        ({"instruct": "a", "thinking": "b", "donor": "base"}, "no donor 'base'"),
    ],
)
def test_what_is_missing_is_said(extra: object, said: str):
    with pytest.raises(MullError, match=said):
        Options.of(extra)
