"""How many clients a server has, and whose handshake is given up when another one wants in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import trio

PATIENCE: Final = 1.0
"""Seconds that a handshake has for itself; one that takes longer must make room for a newcomer."""


class Lobby:
    """Counts clients, from the moment they connect.

    Synchronous; time is passed in.  A client is known by the scope in which its
    handshake runs.  Strangers who connect and say nothing cannot keep others
    out: after `PATIENCE` a newcomer gets their place.  Who has been admitted
    keeps its place.

    Args:
        places: For clients that are served or in their handshake.  As many more may wait to be told that it is full.
    """

    def __init__(self, places: int) -> None:
        self._places = places
        self._served: set[trio.CancelScope] = set()
        # Both in the order in which they came.
        self._arriving: dict[trio.CancelScope, float] = {}
        self._surplus: dict[trio.CancelScope, None] = {}

    def enter(self, client: trio.CancelScope, now: float) -> bool:
        """Note one that has connected; False if there is no place, and that is what it should be told."""
        if len(self._served) + len(self._arriving) >= self._places and not self._make_room(now):
            if len(self._surplus) >= self._places:
                self._give_up(self._surplus)
            self._surplus[client] = None
            return False
        self._arriving[client] = now
        return True

    def admit(self, client: trio.CancelScope) -> bool:
        """Let one stay; False if it has no place, or has no more."""
        if self._arriving.pop(client, None) is None:
            return False
        self._served.add(client)
        return True

    def leave(self, client: trio.CancelScope) -> None:
        """Forget one that has gone."""
        self._served.discard(client)
        self._arriving.pop(client, None)
        self._surplus.pop(client, None)

    def _make_room(self, now: float) -> bool:
        longest = next(iter(self._arriving.values()), None)
        if longest is None or now - longest < PATIENCE:
            return False
        self._give_up(self._arriving)
        return True

    def _give_up(self, clients: dict[trio.CancelScope, float] | dict[trio.CancelScope, None]) -> None:
        oldest = next(iter(clients))
        del clients[oldest]
        oldest.cancel(reason="another client wants in")
