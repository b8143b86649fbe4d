"""The work that every Python client does over the wire, whatever its event loop.

Only the standard library is used, as in `sizes`: a client brings its library, and its own way to run things together.
"""

from __future__ import annotations

import math
import statistics
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from ..stopwatch import resident, timed

if TYPE_CHECKING:
    from ..sizes import Sizes

Call: TypeAlias = Callable[[], Awaitable[object]]

LOOK_AGAIN = 0.05
"""Seconds between two looks at the memory of a client whose consumer has stalled."""


@dataclass(frozen=True)
class Address:
    """Where the agent is.

    Attributes:
        plain: Without TLS.
        secure: With TLS, if it has a certificate.
        authority: The file with the certificate of who signed it.
    """

    plain: str
    secure: str | None = None
    authority: str | None = None


class Client(ABC):
    """A library under measurement.  Sessions are whatever it makes of them."""

    @abstractmethod
    async def connect(self, *, secure: bool = False) -> Any:
        """Open one more connection, and initialize it."""

    @abstractmethod
    async def new_session(self, connection: Any) -> Any:
        """Open a session."""

    @abstractmethod
    async def turn(self, session: Any, text: str) -> int:
        """Run a turn; return how many updates its consumer saw."""

    @abstractmethod
    async def stall(self, session: Any, text: str, seconds: float) -> None:
        """Run a turn whose consumer takes the first update and no other; return after some seconds."""

    @abstractmethod
    async def together(self, calls: list[Call]) -> None:
        """Run all these at once."""

    @abstractmethod
    async def sleep(self, seconds: float) -> None:
        """Wait."""


async def turns(client: Client, session: Any, times: int, count: int, size: int = 64) -> list[float]:
    """Run turns, one after the other; return the seconds of each."""
    text, took = f"{count} {size}", []
    for _ in range(times):
        begun = time.perf_counter()
        seen = await client.turn(session, text)
        took.append(time.perf_counter() - begun)
        assert seen == count, f"{seen} updates of {count}"
    return took


async def drive(client: Client, sizes: Sizes, *, secure: bool) -> dict[str, float]:
    """Measure what a client does over the wire; the agent is there."""
    found: dict[str, float] = {}
    connection = await client.connect()
    session = await client.new_session(connection)
    found |= await alone(client, session, sizes, "wire")
    if secure:
        over_tls = await client.new_session(await client.connect(secure=True))
        found |= await alone(client, over_tls, sizes, "tls")
    sessions = [session, *[await client.new_session(connection) for _ in range(sizes.crowd_wire - 1)]]
    found |= await _crowd(client, sessions, sizes, "one")
    apart = [await client.new_session(await client.connect()) for _ in range(sizes.crowd_wire)]
    found |= await _crowd(client, apart, sizes, "each")
    for count in sizes.growth:
        while len(sessions) < count:
            sessions.append(await client.new_session(connection))
        each = max(1, sizes.growth_turns // count)
        calls: list[Call] = [partial(turns, client, session, each, 100) for session in sessions[:count]]
        try:
            took = await timed(partial(client.together, calls))
        except Exception as error:  # noqa: BLE001 - whatever a library raises when it cannot cope
            print(f"{count} sessions at once were too many: {error!r}", file=sys.stderr)
            found[f"wire_grow_{count}"] = math.nan
            break  # its connection is gone
        found[f"wire_grow_{count}"] = took.cpu / (count * each * 100) * 1e6
    return found


async def alone(client: Client, session: Any, sizes: Sizes, prefix: str) -> dict[str, float]:
    """Measure one session: turns of 10 updates, one after the other, and two long prompts."""
    found: dict[str, float] = {}
    await turns(client, session, max(1, sizes.wire_turns // 10), 10)
    each: list[float] = []

    async def some() -> None:
        each.extend(await turns(client, session, sizes.wire_turns, 10))

    took = await timed(some)
    found[f"{prefix}_turns"] = sizes.wire_turns / took.wall
    found[f"{prefix}_turn_cpu"] = took.cpu / sizes.wire_turns * 1e6
    found[f"{prefix}_p50"] = statistics.median(each) * 1e6
    for name, size in (("64", 64), ("1k", 1024)):
        took = await timed(partial(turns, client, session, 1, sizes.updates, size), times=min(3, sizes.batches))
        found[f"{prefix}_updates_{name}"] = sizes.updates / took.wall
        found[f"{prefix}_update_cpu_{name}"] = took.cpu / sizes.updates * 1e6
    return found


async def _crowd(client: Client, sessions: list[Any], sizes: Sizes, name: str) -> dict[str, float]:
    """Measure turns of 10 updates in many sessions at once."""
    calls: list[Call] = [partial(turns, client, session, sizes.crowd_turns, 10) for session in sessions]
    await client.together([partial(turns, client, session, 1, 10) for session in sessions])
    took = await timed(partial(client.together, calls), times=min(3, sizes.batches))
    count = len(sessions) * sizes.crowd_turns
    return {f"crowd_{name}": count / took.wall, f"crowd_{name}_cpu": took.cpu / count * 1e6}


async def watch_stall(client: Client, sizes: Sizes) -> dict[str, float]:
    """Measure by how much the process grows while its consumer has stalled, in MiB."""
    session = await client.new_session(await client.connect())
    await turns(client, session, 3, 100, 1024)
    before = peak = resident()
    over = False

    async def watch() -> None:
        nonlocal peak
        while not over:
            peak = max(peak, resident())
            await client.sleep(LOOK_AGAIN)

    async def stall() -> None:
        nonlocal over
        await client.stall(session, f"{sizes.flood} 1024", sizes.stall)
        over = True

    await client.together([watch, stall])
    return {"stall": peak - before}
