"""The λ of a request, and the salt of its prefix cache."""

from __future__ import annotations

import subprocess
import sys

import pytest

from mull.engines.vllm.per_request.requests import cache_salt, lambda_of
from mull.errors import MullError


@pytest.mark.parametrize("given", [0, 1, 0.25, 1.0])
def test_a_number_between_the_ends_is_a_lambda(given: float):
    assert lambda_of({"lambda": given, "other": "x"}, 0.5) == given


@pytest.mark.parametrize("extra", [None, {}, {"other": 1}, {"lambda": None}])
def test_no_lambda_is_the_default(extra: dict | None):
    assert lambda_of(extra, 0.5) == 0.5


@pytest.mark.parametrize("given", [-0.1, 1.5, "0.5", True, [0.5], float("nan"), float("inf")])
def test_anything_else_is_refused(given: object):
    with pytest.raises(MullError, match="lambda must"):
        lambda_of({"lambda": given}, 1.0)


def test_a_salt_tells_every_lambda_apart():
    lams = [0.1, 0.12, 0.1234567, 0.12345678, 1e-7, 0.0, 1.0]
    assert len({cache_salt(lam) for lam in lams}) == len(lams)
    assert cache_salt(1) == cache_salt(1.0)
    assert cache_salt(0.6) == "lambda=0.6|"


def test_a_client_keeps_its_own_salt():
    assert cache_salt(0.6, "alice") == "lambda=0.6|alice" != cache_salt(0.6, "bob")
    assert cache_salt(0.6, cache_salt(0.6, "alice")) == cache_salt(0.6, "alice")  # salted twice on the way
    assert cache_salt(0.5, cache_salt(0.6)) != cache_salt(0.6)  # another λ in the salt is only a client's text


def test_salts_need_neither_vllm_nor_torch():
    code = "import sys, mull.engines.vllm.per_request.requests; assert not {'torch', 'vllm'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
