"""The cache's name in calls of old and new transformers, for which the names here stand."""

from __future__ import annotations

import functools
import warnings
from typing import Any

import pytest
import torch

from mull.engines.forward import cache_name


class _Before(torch.nn.Module):
    def forward(self, input_ids: int, past_key_values: Any = None, **kwargs: Any) -> Any:
        return past_key_values


class _After(torch.nn.Module):
    """Takes the old name with a warning, as transformers 5.24 does."""

    @staticmethod
    def _renamed(function: Any) -> Any:
        @functools.wraps(function)
        def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
            if "past_key_values" in kwargs:
                warnings.warn("use cache", FutureWarning, stacklevel=2)
                kwargs["cache"] = kwargs.pop("past_key_values")
            return function(self, *args, **kwargs)

        return forward

    @_renamed
    def forward(self, input_ids: int, cache: Any = None, **kwargs: Any) -> Any:
        return cache


@pytest.mark.parametrize("model", [_Before(), _After()])
def test_a_cache_is_given_under_the_name_that_does_not_warn(model: torch.nn.Module) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert model(1, **{cache_name(model): "given"}) == "given"
