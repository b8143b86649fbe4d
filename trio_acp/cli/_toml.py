"""Reading a table of a TOML file strictly: every refusal names the file, the key and what belongs there."""

from __future__ import annotations

import difflib
import math
from typing import TYPE_CHECKING, Any

import attrs

from .._errors import InvalidOption

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

_KINDS = {bool: "true or false", str: "a string", int: "a number", float: "a number", list: "a list", dict: "a table"}


@attrs.frozen
class Table:
    """One table of the file.

    Attributes:
        file: For messages.
        at: The path of keys to it; empty for the whole file.
        values: What is in it.
    """

    file: Path
    at: str
    values: dict[str, Any]

    def wrong(self, key: str, what: str) -> InvalidOption:
        """Make the error for a key."""
        return InvalidOption(f"{self.file}: {self._path(key)}: {what}", detail="invalid-config")

    def only(self, known: Collection[str]) -> None:
        """Refuse other keys than these.

        Raises:
            InvalidOption: there is one; the message has its name, and the one that was probably meant.
        """
        for key in self.values:
            if key not in known:
                near = difflib.get_close_matches(key, known, n=1)
                meant = f"did you mean {near[0]}?" if near else f"known are {', '.join(sorted(known))}"
                raise self.wrong(key, f"there is no such key; {meant}")

    def table(self, key: str) -> Table:
        """Return a table of this one, which is empty if it is missing."""
        return Table(self.file, self._path(key), self._get(key, dict) or {})

    def text(self, key: str) -> str | None:
        """Return a string that is not empty, or None if it is missing."""
        value: str | None = self._get(key, str)
        if value is not None and (not value.strip() or "\0" in value):
            raise self.wrong(key, "it must not be empty")
        return value

    def flag(self, key: str) -> bool | None:
        """Return true or false, or None if it is missing."""
        value: bool | None = self._get(key, bool)
        return value

    def seconds(self, key: str) -> float | None:
        """Return a number of seconds above 0, or None if it is missing."""
        value = self.values.get(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.wrong(key, f"it must be a number of seconds, not {_kind(value)}")
        try:
            number = float(value)
        except OverflowError:  # TOML's integers have no largest one
            number = math.inf
        if not 0 < number < math.inf:
            raise self.wrong(key, f"it must be a number of seconds above 0, not {number:g}")
        return number

    def path(self, key: str) -> Path | None:
        """Return a file; a relative one is below the directory of the configuration file."""
        value = self.text(key)
        if value is None:
            return None
        try:
            return self.file.parent / type(self.file)(value).expanduser()
        except RuntimeError:
            raise self.wrong(key, f"there is no home directory for {value!r}") from None

    def words(self, key: str) -> tuple[str, ...]:
        """Return a list of strings."""
        values = self.values[key]
        for number, value in enumerate(values):
            if not isinstance(value, str) or "\0" in value:
                raise self.wrong(f"{key}[{number}]", f"it must be a string, not {_kind(value)}")
        return tuple(values)

    def texts(self, key: str) -> dict[str, str]:
        """Return a table of strings."""
        table = self.table(key)
        for name, value in table.values.items():
            if not isinstance(value, str) or "\0" in value:
                raise table.wrong(name, f"it must be a string, not {_kind(value)}")
        return dict(table.values)

    def _get(self, key: str, kind: type) -> Any:
        value = self.values.get(key)
        if value is not None and not isinstance(value, kind):
            raise self.wrong(key, f"it must be {_KINDS[kind]}, not {_kind(value)}")
        return value

    def _path(self, key: str) -> str:
        return f"{self.at}.{key}" if self.at else key


def _kind(value: object) -> str:
    return _KINDS.get(type(value), "a date or time")
