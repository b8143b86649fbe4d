"""A run as a file: what was done to it, and where its order differs from the default one."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs

from ._actions import Strike

if TYPE_CHECKING:
    from collections.abc import Mapping

FORMAT: Final = "trio-explore-tape"
VERSION: Final = 1
TAPES: Final = Path(".trio-acp") / "tapes"
"""Where the tapes of findings are kept, below the current directory."""
_JSON_NAMES: Final = {str: "a string", int: "a whole number", list: "an array", dict: "an object"}


def tape_name(file: str | os.PathLike[str], name: str) -> str:
    """Return how the tapes of a test are called, for `Tape.keep`; pytest and the command call them the same.

    Args:
        file: Where the test is.  Its path below the current directory counts;
            elsewhere, only how it is called.
        name: The test.
    """
    path = Path(os.path.relpath(file)).with_suffix("")
    return f"{path.name if path.parts[0] == os.pardir else path}-{name}"


class BadTape(ValueError):
    """A tape cannot be read; the message says which member is wrong."""


@attrs.frozen
class Tape:
    """What makes a run come out again.

    Attributes:
        scenario: The scenario's name.
        strikes: What is done to it.
        deviations: Which task goes on where it is not the default one: the
            number of the choice, and the position taken.
        kind: What was found.
        message: What exactly.
        steps: How many steps the run made.
        fingerprint: Of the run; see `replay`.
    """

    scenario: str
    strikes: tuple[Strike, ...] = ()
    deviations: Mapping[int, int] = attrs.field(factory=dict, hash=False)
    kind: str = ""
    message: str = ""
    steps: int = 0
    fingerprint: str = ""

    def dumps(self) -> str:
        """Return the tape as JSON text."""
        return json.dumps(
            {
                "format": FORMAT,
                "version": VERSION,
                "scenario": self.scenario,
                "strikes": [attrs.asdict(strike) for strike in self.strikes],
                "deviations": [[number, taken] for number, taken in sorted(self.deviations.items())],
                "found": {
                    "kind": self.kind,
                    "message": self.message,
                    "steps": self.steps,
                    "fingerprint": self.fingerprint,
                },
            },
            indent=1,
        )

    def keep(self, name: str) -> Path:
        """Write the tape to a file named for `name` and the finding's kind, in ``TAPES``; return its path.

        Raises:
            OSError: it cannot be written.
        """
        path = TAPES / (re.sub(r"[^\w.-]+", "-", f"{name}-{self.kind}") + ".json")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.dumps(), "utf-8")
        return path

    @classmethod
    def loads(cls, text: str | bytes) -> Tape:
        """Read a tape.

        Raises:
            BadTape: it is none, or of another version; the message names the member.
        """
        return _read(text)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Tape:
        """Read a tape from a file.

        Raises:
            BadTape: as `loads` does.
            OSError: the file cannot be read.
        """
        with open(path, "rb") as file:  # noqa: PTH123 - any path-like will do
            return _read(file.read())


def _read(text: str | bytes) -> Tape:
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadTape(f"a tape is JSON text: {error}") from error
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise BadTape(f'format: must be "{FORMAT}"')
    if type(data.get("version")) is not int or data["version"] != VERSION:
        raise BadTape(f"version: {data.get('version')!r:.60} is not known, {VERSION} is")
    found = _member(data, "found", dict)
    return Tape(
        scenario=_member(data, "scenario", str),
        strikes=tuple(_strike(item, f"strikes[{i}]") for i, item in enumerate(_member(data, "strikes", list))),
        deviations=dict(
            _deviation(item, f"deviations[{i}]") for i, item in enumerate(_member(data, "deviations", list))
        ),
        kind=_member(found, "kind", str, "found."),
        message=_member(found, "message", str, "found."),
        steps=_member(found, "steps", int, "found."),
        fingerprint=_member(found, "fingerprint", str, "found."),
    )


def _member(data: dict[str, Any], name: str, kind: type, path: str = "") -> Any:
    value = data.get(name)
    if type(value) is not kind:
        raise BadTape(f"{path}{name}: must be {_JSON_NAMES[kind]}, not {value!r:.60}")
    return value


def _strike(item: Any, path: str) -> Strike:
    if not isinstance(item, dict):
        raise BadTape(f"{path}: must be an object")
    phase = item.get("phase")
    if phase not in ("before", "after", "entry"):
        raise BadTape(f"{path}.phase: must be before, after or entry, not {phase!r:.60}")
    step = _member(item, "step", int, f"{path}.")
    if step < 0:
        raise BadTape(f"{path}.step: must not be below 0")
    return Strike(_member(item, "action", str, f"{path}."), step, phase)


def _deviation(item: Any, path: str) -> tuple[int, int]:
    if not isinstance(item, list) or len(item) != 2 or not all(type(n) is int and n >= 0 for n in item):
        raise BadTape(f"{path}: must be two whole numbers, not {item!r:.60}")
    return item[0], item[1]
