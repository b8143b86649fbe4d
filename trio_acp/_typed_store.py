"""A store whose failures are all of one type, whatever it is made of.

A store is foreign code: one that was written for a database raises that
database's errors.  Whoever uses a session should have one error to expect, and
everything here should have one to handle.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from ._errors import AcpError, StoreError
from .abc import SessionStore

if TYPE_CHECKING:
    from ._records import SessionRecord
    from .abc import Mutate


class TypedStore(SessionStore):
    """Calls another store, which was entered already; a foreign error of it becomes the cause of a `StoreError`.

    What is ours passes as it is: also what the change that is given to `update` refuses with.
    """

    def __init__(self, store: SessionStore) -> None:
        self._store = store

    async def read(self, key: str) -> SessionRecord | None:
        try:
            return await self._store.read(key)
        except AcpError:
            raise
        except Exception as error:
            raise StoreError(f"reading the metadata of {key!r} failed: {error!r}") from error

    async def update(self, key: str, mutate: Mutate) -> SessionRecord | None:
        try:
            return await self._store.update(key, mutate)
        except AcpError:
            raise
        except Exception as error:
            raise StoreError(f"changing the metadata of {key!r} failed: {error!r}") from error

    def update_nowait(self, key: str, mutate: Mutate) -> SessionRecord | None:
        try:
            return self._store.update_nowait(key, mutate)
        except (AcpError, trio.WouldBlock):
            raise
        except Exception as error:
            raise StoreError(f"changing the metadata of {key!r} failed: {error!r}") from error

    async def list(self) -> tuple[SessionRecord, ...]:
        try:
            return await self._store.list()
        except AcpError:
            raise
        except Exception as error:
            raise StoreError(f"listing the stored sessions failed: {error!r}") from error
