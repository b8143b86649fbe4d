"""A store whose failures are all of one type, whatever it is made of.

A store is foreign code: one that was written for a database raises that
database's errors.  Whoever uses a session should have one error to expect, and
everything here should have one to handle.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from ._errors import AcpError, StoreError
from .abc import SessionStore

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ._records import SessionRecord
    from .abc import Mutate


class TypedStore(SessionStore):
    """Calls another store, which was entered already; a foreign error of it becomes the cause of a `StoreError`.

    What is ours passes as it is: also what the change that is given to `update` refuses with.
    """

    def __init__(self, store: SessionStore) -> None:
        self._store = store

    async def read(self, key: str) -> SessionRecord | None:
        with _typed(f"reading the metadata of {key!r}"):
            return await self._store.read(key)

    async def update(self, key: str, mutate: Mutate) -> SessionRecord | None:
        with _typed(f"changing the metadata of {key!r}"):
            return await self._store.update(key, mutate)

    async def list(self) -> tuple[SessionRecord, ...]:
        with _typed("listing the stored sessions"):
            return await self._store.list()


@contextmanager
def _typed(what: str) -> Iterator[None]:
    try:
        yield
    except AcpError:
        raise
    except Exception as error:
        raise StoreError(f"{what} failed: {error!r}") from error
