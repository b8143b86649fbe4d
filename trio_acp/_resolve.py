"""What is known under a key: a session, one that lost its metadata, or nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import attrs
import trio

from ._errors import SessionMissing, StoreError
from ._keys import is_acp_shaped, missing, normalise_key

if TYPE_CHECKING:
    from ._context import Context
    from ._records import SessionRecord


@attrs.frozen
class Ready:
    """There is a session under this key; `record` is its metadata."""

    key: str
    record: SessionRecord


@attrs.frozen
class Stale:
    """The key was made for a session whose metadata is gone; `error` is what its use would raise."""

    key: str
    error: SessionMissing


@attrs.frozen
class Missing:
    """There is no session under this key, which is empty if nothing was in it."""

    key: str


Resolution: TypeAlias = Ready | Stale | Missing
"""What `SessionManager.resolve` returns."""


async def resolve(ctx: Context, key: str) -> Resolution:
    """Look a key up in the store, within `probe` seconds.  If cancelled, nothing happened.

    Raises:
        StoreError: the store cannot be read, or not in time.
    """
    canonical = normalise_key(key, ctx.settings)
    if not canonical:
        await trio.lowlevel.checkpoint()
        return Missing("")
    record = await read_by(ctx, canonical, trio.current_time() + ctx.settings.limits.probe)
    if record is not None:
        return Ready(canonical, record)
    return Stale(canonical, missing(canonical)) if is_acp_shaped(canonical) else Missing(canonical)


async def read_by(ctx: Context, key: str, deadline: float) -> SessionRecord | None:
    """Read a session's record until the clock shows `deadline`.  If cancelled, nothing happened.

    Raises:
        StoreError: it cannot be read, or not in time.
    """
    with trio.move_on_at(deadline):
        return await ctx.read(key)
    raise StoreError(f"reading the metadata of {key!r} took too long", detail="store-timeout")
