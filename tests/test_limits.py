"""Which deadlines and bounds are refused."""

from __future__ import annotations

import math
from typing import Any

import attrs
import pytest

from trio_acp import InvalidOption, Limits, Settings

SECONDS = [field.name for field in attrs.fields(Limits)]
FINITE = {"grace", "cleanup", "settle", "join"}


@pytest.mark.parametrize("name", SECONDS)
@pytest.mark.parametrize("value", [0, -1, 0.0, math.nan, True, "5", None, -math.inf])
def test_a_limit_is_a_positive_number(name: str, value: Any) -> None:
    """Anything else is refused, naming the limit."""
    with pytest.raises(InvalidOption) as caught:
        Limits(**{name: value})
    assert f"invalid-{name}" == caught.value.detail


@pytest.mark.parametrize("name", SECONDS)
def test_cleanup_is_always_bounded(name: str) -> None:
    """Infinity switches a limit off, except where a shield depends on it."""
    if name in FINITE:
        with pytest.raises(InvalidOption):
            Limits(**{name: math.inf})
    else:
        assert math.inf == getattr(Limits(**{name: math.inf}), name)


@pytest.mark.parametrize("name", ["max_queued", "max_buffered"])
@pytest.mark.parametrize("value", [0, -1, 1.5, True, "3"])
def test_a_bound_is_a_positive_whole_number(name: str, value: Any) -> None:
    """Anything else is refused, naming the bound."""
    with pytest.raises(InvalidOption) as caught:
        Settings(**{name: value})
    assert f"invalid-{name}" == caught.value.detail


def test_the_defaults() -> None:
    """The numbers that the documentation gives."""
    assert (172_800, 1, 2, 60, 5, 15, 5, 0.1) == attrs.astuple(Limits())
    assert 32 == Settings().max_queued
