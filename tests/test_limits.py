"""Which deadlines and bounds are refused."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from trio_acp import Ask, InvalidOption, Limits, MemoryLedger, Settings, SQLiteStore

if TYPE_CHECKING:
    from pathlib import Path

    from trio_acp.abc import Decision, PermissionRequest

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


@pytest.mark.parametrize("wrong", ["5", True, None, 0, -1.0, math.nan])
def test_seconds_are_numbers_wherever_they_are_given(wrong: Any, tmp_path: Path) -> None:
    """Text that looks like one, a flag and no number at all are refused by name, as what is not above 0 is."""

    async def never(_: PermissionRequest) -> Decision:
        raise AssertionError

    for make in (
        lambda: MemoryLedger(retention=wrong),
        lambda: SQLiteStore(tmp_path / "x.db", busy_timeout=wrong),
        lambda: Ask(never, timeout=wrong),
    ):
        with pytest.raises(InvalidOption, match="seconds"):
            make()
