"""Exact types: the checks that every reading of JSON is made of.

A check takes a JSON value and returns what it stands for, or raises
`Mismatch`, which collects the path on its way out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeAlias

from trio_acp._errors import InvalidMessage

Hook: TypeAlias = Callable[[Any, Any], Any]
"""Structures a JSON value; as cattrs calls it, with the type as second argument."""

MISSING: Final = object()
"""Stands for a member that is not there."""


class Mismatch(Exception):
    """A value is not what it should be; `steps` grows from the inside out."""

    def __init__(self, expected: str, found: object) -> None:
        super().__init__(expected)
        self.expected = expected
        self.found = _json_type(found)
        self.steps: list[str] = []

    def inside(self, step: str) -> Mismatch:
        """Say that the value was found under `step`, such as ``.content`` or ``[3]``."""
        self.steps.append(step)
        return self

    def as_error(self, at: str) -> InvalidMessage:
        """Return the error to raise, for a structure that began at the path `at`."""
        path = at + "".join(reversed(self.steps))
        return InvalidMessage(f"{path}: expected {self.expected}, found {self.found}", path=path)


def _json_type(value: object) -> str:
    """Name the JSON type of `value`; the value itself may be long, or secret."""
    if value is MISSING:
        return "nothing"
    if value is None:
        return "null"
    names = {bool: "a boolean", int: "a number", float: "a number", str: "a string", list: "an array"}
    return names.get(type(value), "an object")


def exactly(expected: str, *kinds: type) -> Hook:
    """Take values of these types and no others."""

    def structure(raw: Any, _: Any) -> Any:
        if type(raw) not in kinds:  # to `isinstance`, true is an int
            raise Mismatch(expected, raw)
        return raw

    return structure


def structure_int(raw: Any, _: Any) -> int:
    """Take an integer, however it is written."""
    # JSON knows no integers: 1.0 is one, and some languages write it so.
    if type(raw) is int or (type(raw) is float and raw.is_integer()):
        return int(raw)
    raise Mismatch("an integer", raw)


def structure_float(raw: Any, _: Any) -> float:
    """Take a number."""
    if type(raw) is float or (type(raw) is int and abs(raw) < 2**63):
        return float(raw)
    raise Mismatch("a number", raw)


def structure_marker(raw: Any, _: Any) -> bool:
    """Take an object, whatever is in it, as a yes."""
    if type(raw) is not dict:
        raise Mismatch("an object", raw)
    return True


def restricted(hook: Hook, allowed: Callable[[Any], bool], expected: str) -> Hook:
    """Take what `hook` takes, if it is allowed."""

    def structure(raw: Any, target: Any) -> Any:
        value = hook(raw, target)
        if not allowed(value):
            raise Mismatch(expected, raw)
        return value

    return structure


def list_of(item: Hook, *, skip_invalid: bool) -> Hook:
    """Take an array, and drop its wrong items or refuse it for them."""

    def structure(raw: Any, _: Any) -> tuple[Any, ...]:
        if type(raw) is not list:
            raise Mismatch("an array", raw)
        items = []
        for index, given in enumerate(raw):
            try:
                items.append(item(given, None))
            except Mismatch as mismatch:
                if not skip_invalid:
                    raise mismatch.inside(f"[{index}]") from None
        return tuple(items)

    return structure
