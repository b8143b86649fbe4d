"""Rows as they are read: SQLite keeps any type in a column, and others than us may have written the file."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, TypeAlias, get_args

import attrs

from .._records import Owner

if TYPE_CHECKING:
    from collections.abc import Mapping

_QUOTED: Final = 60


class DamagedRow(ValueError):
    """A row has what we never write; the message names the table, the row and the column."""


@attrs.frozen
class Kind:
    """What a column holds.

    Attributes:
        words: It in words, for messages.
        types: Its types, as Python sees them.
        empty: Whether it may be NULL.
        among: All values that it can have, if there are only some.
    """

    words: str
    types: tuple[type, ...]
    empty: bool = False
    among: frozenset[str] | None = None

    def has(self, value: Any) -> bool:
        """Whether it is such a value."""
        if value is None:
            return self.empty
        return isinstance(value, self.types) and (self.among is None or value in self.among)


TEXT: Final = Kind("a text", (str,))
INTEGER: Final = Kind("a whole number", (int,))
NUMBER: Final = Kind("a number", (int, float))


def or_none(kind: Kind) -> Kind:
    """Return a kind that may be missing."""
    return attrs.evolve(kind, empty=True)


def one_of(alias: Any) -> Kind:
    """Return the kind of a `Literal`."""
    words = get_args(alias)
    return Kind(f"one of {', '.join(words)}", (str,), among=frozenset(words))


OWNER: Final = {
    "owner_pid": or_none(INTEGER),
    "owner_start_time": or_none(INTEGER),
    "owner_boot_id": or_none(TEXT),
    "owner_manager_id": or_none(TEXT),
}
"""The columns of an `Owner`; without a process there is none."""
Values: TypeAlias = dict[str, Any]


@attrs.frozen
class Columns:
    """The columns of a table, in the order in which they are selected.

    Attributes:
        table: Its name.
        key: The columns that name a row, for messages.
        kinds: The columns, and what each has to hold.
    """

    table: str
    key: tuple[str, ...]
    kinds: Mapping[str, Kind]

    def read(self, row: tuple[Any, ...]) -> Values:
        """Return the values of a row by their columns.

        Raises:
            DamagedRow: one of them is not what it has to be.
        """
        values = dict(zip(self.kinds, row, strict=True))
        for name, kind in self.kinds.items():
            if not kind.has(values[name]):
                raise self.damaged(values, name, f"{_short(values[name])} is not {kind.words}")
        return values

    def damaged(self, values: Values, column: str, why: str) -> DamagedRow:
        """Return the error that a column of a row cannot be read."""
        row = " ".join(_short(values[name]) for name in self.key)
        return DamagedRow(f"table {self.table}, row {row}, column {column}: {why}")

    def json(self, values: Values, column: str) -> Any:
        """Return what a column has as JSON.

        Raises:
            DamagedRow: it is none.
        """
        try:
            return json.loads(values[column])
        except (ValueError, RecursionError) as error:
            raise self.damaged(values, column, f"it is no JSON: {error}") from error

    def take_owner(self, values: Values) -> Owner | None:
        """Take the columns of `OWNER` out of the values, and return the owner.

        Raises:
            DamagedRow: a part of it is missing.
        """
        parts = {name: values[name] for name in OWNER}
        if parts["owner_pid"] is not None:
            for name, value in parts.items():
                if value is None:
                    raise self.damaged(values, name, "it is missing")
        for name in OWNER:
            del values[name]
        pid, start_time, boot_id, manager_id = parts.values()
        return None if pid is None else Owner(pid=pid, start_time=start_time, boot_id=boot_id, manager_id=manager_id)


def _short(value: Any) -> str:
    # Cut before it is quoted: a damaged value may be of any size.
    if isinstance(value, str | bytes) and len(value) > _QUOTED:
        return f"{value[:_QUOTED]!r}..."
    return repr(value)
