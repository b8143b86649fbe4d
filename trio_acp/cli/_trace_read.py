"""Reading the file that `TraceFile` wrote, whatever else it may be."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any, Final

import attrs

from .._errors import InvalidOption
from .._trace_file import VERSION

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_LONGEST_TIME: Final = 1e11
"""Seconds, three thousand years: beyond, floats are too coarse to tell what was first."""


@attrs.frozen(kw_only=True)
class Entry:
    """One record of the file.

    Attributes:
        name: As in `TraceRecord`; a name that is not known here is kept.
        time: Seconds since the file was begun.
    """

    name: str
    time: float
    session: str
    turn: str
    data: Mapping[str, Any] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class Trace:
    """What a file says.

    Attributes:
        wall: When the file was begun, as it says.
        notes: What is missing in it, a sentence each.
    """

    wall: str
    entries: tuple[Entry, ...]
    notes: tuple[str, ...] = ()


def read_trace(lines: Iterable[bytes], name: str) -> Trace:
    """Read a trace, line by line.

    A last line that was cut off, as by a crash, is left out, and a note says so.

    Args:
        name: What to call the file in errors.

    Raises:
        InvalidOption: it is no trace, or not one that this version can read; the message has the line.
    """
    entries: list[Entry] = []
    notes: list[str] = []
    wall, clock, latest, lost = "", 0.0, -math.inf, 0
    number = 0
    for number, line in enumerate(lines, 1):
        try:
            value = _decode(line)
            if number == 1:
                wall, clock = _header(value)
            elif "lost" in value:
                lost += _count(value["lost"])
            else:
                entry = _entry(value, clock)
                if entry.time < latest:
                    raise _Wrong("its time is before that of the record above")
                latest = entry.time
                entries.append(entry)
        except _Wrong as error:
            if number > 1 and not line.endswith(b"\n"):
                notes.append(f"The last line, {number}, was cut off and is left out.")
                break
            raise InvalidOption(f"{name}, line {number}: {error}", detail="invalid-trace") from None
    if number == 0:
        raise InvalidOption(f"{name}: the file is empty, not a trace", detail="invalid-trace")
    if lost:
        notes.append(f"{lost} records are missing: the disk was too slow for them.")
    return Trace(wall=wall, entries=tuple(entries), notes=tuple(notes))


class _Wrong(Exception):
    """What is wrong with a line."""


def _decode(line: bytes) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise _Wrong("this is not a JSON object") from error
    if not isinstance(value, dict):
        raise _Wrong("this is not a JSON object")
    return value


def _header(value: dict[str, Any]) -> tuple[str, float]:
    if value.get("trace") != "trio-acp":
        raise _Wrong("this is not a trace of trio-acp, which begins with a header")
    if value.get("version") != VERSION:
        raise _Wrong(f"this version of trio-acp reads traces of version {VERSION}, not {value.get('version')!r:.20}")
    return str(value.get("wall", "")), _time(value.get("clock"), "clock")


def _entry(value: dict[str, Any], clock: float) -> Entry:
    if "trace" in value:
        raise _Wrong("another trace begins here; show one at a time")
    for key in ("name", "session", "turn"):
        if not isinstance(value.get(key), str):
            raise _Wrong(f"{key!r} is missing, or no text")
    data = value.get("data", {})
    if not isinstance(data, dict):
        raise _Wrong("'data' is no object")
    time = _time(value.get("time"), "time") - clock
    return Entry(name=value["name"], time=time, session=value["session"], turn=value["turn"], data=data)


def _time(value: Any, key: str) -> float:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not abs(value) <= _LONGEST_TIME:
        raise _Wrong(f"{key!r} is no number of seconds")
    return float(value)


def _count(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 10**15:
        raise _Wrong("'lost' is no number of records")
    return value
