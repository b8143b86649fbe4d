"""Schedules that can be had again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

from tests.schedule import begin_schedule, seed_of

if TYPE_CHECKING:
    from collections.abc import Callable


def order_of_ten() -> list[int]:
    """Run ten tasks that are ready together."""
    taken: list[int] = []

    async def take(n: int) -> None:
        taken.append(n)
        await trio.lowlevel.checkpoint()

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for n in range(10):
                nursery.start_soon(take, n)

    trio.run(main)
    return taken


@pytest.fixture
def as_it_began(request: pytest.FixtureRequest) -> Callable[[], None]:
    return lambda: begin_schedule(seed_of(request.node))


def test_a_seed_is_an_order() -> None:
    """The same seed gives the same one, other seeds others."""
    orders = []
    for seed in ("1", "1", "2", "3"):
        begin_schedule(seed)
        orders.append(tuple(order_of_ten()))
    assert orders[0] == orders[1]
    assert 3 == len(set(orders))


def test_each_test_begins_with_the_order_of_its_name(as_it_began: Callable[[], None]) -> None:
    """So one test alone is scheduled as in the whole suite, given its seed."""
    found = order_of_ten()
    as_it_began()
    assert found == order_of_ten()


def test_a_trio_without_the_name_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """And not by schedules that silently are no longer the seed's."""
    monkeypatch.setattr("trio._core._run._r", None)
    with pytest.raises(pytest.UsageError, match="keeps its scheduler's randomness elsewhere"):
        begin_schedule("1")
