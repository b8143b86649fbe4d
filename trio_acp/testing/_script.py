"""The language in which a prompt tells the scripted agent what to do.

A prompt is split at newlines and semicolons into steps.  A step begins with
its name, in lower case; what follows is described by its line in `STEPS`, and
that line is also what the parser goes by: ``N``, ``BYTES``, ``USED``, ``SIZE``
are whole numbers, ``SECONDS`` may be a fraction or ``inf``, ``CODE`` may be
negative, ``ID``, ``METHOD``, ``REASON`` are single words, ``JSON`` is any JSON
value, ``key=WORD`` may stand anywhere among the text, and anything else is
text.  Brackets mark what may be left out.  ``JSON`` and ``LINE`` reach to the
end of the line, semicolons included.

The steps about cancels and about what follows the answer hold for the whole
turn, wherever they stand; the others are done in order.

Text that begins with no step's name is echoed, so that an ordinary prompt
gets an ordinary reply.  A step that is written wrongly fails the whole script
before anything is done, with a `ScriptError` that names it.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any, Final

import attrs

if TYPE_CHECKING:
    from collections.abc import Mapping

STEPS: Final[Mapping[str, str]] = {
    # what a turn shows
    "say TEXT": "one chunk of reply",
    "chunks N [TEXT] [every=SECONDS]": "N chunks: TEXT 1, TEXT 2, ...",
    "think TEXT": "one chunk of thought",
    "tool TITLE [kind=KIND] [path=PATH] [status=STATUS] [every=SECONDS]": "a tool call: pending, in_progress, STATUS",
    "plan ENTRIES": "a plan; the entries are separated by |",
    "usage USED SIZE": "how full the context is",
    "mode ID": "the current mode changed",
    "commands": "the list of slash commands",
    "big BYTES": "one chunk of that size",
    "wide N BYTES [every=SECONDS]": "N chunks of that size",
    "history": "says how many earlier turns the session remembers, and how it was opened",
    # what it asks
    "permission [TITLE] [kinds=KINDS] [kind=KIND]": "asks, offering KINDS separated by commas; says the answer",
    "permission! [TITLE] [kinds=KINDS] [kind=KIND]": "the same; ends the turn with `refusal` unless allowed",
    "cancel-own-request [SECONDS]": "asks for permission, takes it back SECONDS later; says the answer",
    "request METHOD [JSON]": "sends any request with these params and the session's id; says the answer",
    "read-file PATH [line=N] [limit=N]": "reads a file of the client, from its session's directory on; says it",
    "write-file PATH [TEXT]": "writes a file of the client; says whether it was written",
    "terminal LINE": "runs a command in a terminal of the client; says its output and how it ended",
    "terminal-start LINE": "only starts it; says the terminal's id",
    "notify METHOD [JSON]": "sends any notification with these params",
    # how long it takes, and how it ends
    "sleep SECONDS": "does nothing for a while",
    "hang": "does nothing until it is cancelled",
    "stop REASON": "ends the turn with this stop reason",
    "error CODE MESSAGE": "answers the prompt with a JSON-RPC error",
    "close": "closes the connection, in order",
    "crash [CODE]": "the process exits with CODE (default 1); in-process, the connection breaks",
    # what it makes of a cancel, and what follows its answer: true of the whole turn, wherever it stands
    "ignore-cancel SECONDS": "goes on for so long after a cancel, then stops",
    "refuse-cancel": "answers `end_turn` after a cancel",
    "reject-cancel": "answers a cancel with an error, and goes on as if there had been none",
    "run-on": "answers `cancelled` at once, and goes on with its steps",
    "sticky-cancel": "a cancel stops this turn, and the session's next turn too",
    "double-cancel-poison": "two cancels make the session's next permission fail without being asked",
    "late N [SECONDS]": "N updates after the response, SECONDS apart",
    "duplicate-response [REASON]": "answers the prompt a second time",
    # what no agent should send
    "unknown-response": "answers a request that was never made",
    "bad-response": "answers the prompt with a stop reason that is a number",
    "other-session [ID]": "an update for another session",
    "update JSON": "an update as it stands here",
    "raw LINE": "a message as it stands here",
    "binary N": "a binary message of N bytes, where the transport can",
    "freeze [SECONDS]": "stops reading, for so long or for ever; a frozen agent does not notice a disconnect",
}
"""Every step, as it is written, and what it does."""

WILD: Final[Mapping[str, str]] = {
    "end-turn-after-cancel": "refuse-cancel; say working; hang",
    "two-stop-reasons": "duplicate-response end_turn; say working; hang",
    "cancel-rejected": "reject-cancel; say working; sleep 60; say finished",
    "double-cancel-poisons": "double-cancel-poison; say working; ignore-cancel 0.1; hang",
    "cancel-hits-next-turn": "sticky-cancel; say working; hang",
    "runs-on-after-cancel": "run-on; say working; sleep 5; chunks 3 still; say finished",
    "slow-cleanup-then-late": "ignore-cancel 30; late 3; say working; hang",
}
"""Misbehaviour met in real agents after a cancel: its name, and the prompt that shows it.

* ``end-turn-after-cancel``: the cancelled turn is answered `end_turn`.
* ``two-stop-reasons``: the cancelled turn is answered twice, differently.
* ``cancel-rejected``: the cancel is answered with an error, and nothing stops.
* ``double-cancel-poisons``: two cancels of one turn break the next turn's permission.
* ``cancel-hits-next-turn``: the cancel is kept with the session, and hits its next turn too.
* ``runs-on-after-cancel``: the cancel is confirmed, and the turn runs to its end all the same.
* ``slow-cleanup-then-late``: stopping takes longer than anyone waits, and updates follow the answer.
"""


class ScriptError(ValueError):
    """A step is not written as it should be; the message names the step."""


@attrs.frozen
class Step:
    """One step of a script.

    Attributes:
        name: Which; ``"echo"`` for text that is no step.
        text: The text, line or single word it takes; empty if left out.
        numbers: The numbers it takes, in order, as far as they were given.
        options: Its ``key=value`` parts.
        data: The decoded JSON it takes, or None.
    """

    name: str
    text: str = ""
    numbers: tuple[float, ...] = ()
    options: Mapping[str, str] = attrs.field(factory=dict)
    data: Any = None

    def number(self, index: int, default: float = 0) -> float:
        """Return a number of the step, or `default` if it was left out."""
        return self.numbers[index] if index < len(self.numbers) else default

    def count(self, index: int, default: int = 0) -> int:
        """Return a whole number of the step, or `default` if it was left out."""
        return int(self.number(index, default))

    @property
    def every(self) -> float:
        """Seconds between two messages of the step."""
        return float(self.options.get("every", 0))


_COUNTS = frozenset({"N", "BYTES", "USED", "SIZE"})
_WORDS = frozenset({"ID", "METHOD", "REASON"})
_TO_END_OF_LINE = frozenset({"JSON", "LINE"})


@attrs.frozen
class _Form:
    """How one step is written: a line of `STEPS`, taken apart."""

    usage: str
    params: tuple[tuple[str, bool], ...]
    options: frozenset[str]

    @classmethod
    def of(cls, usage: str) -> _Form:
        params, options = [], set()
        for word in usage.split()[1:]:
            bare = word.strip("[]")
            if "=" in bare:
                options.add(bare.partition("=")[0])
            else:
                params.append((bare, bare == word))
        return cls(usage, tuple(params), frozenset(options))

    def takes_line(self, piece: str) -> bool:
        """Whether `piece`, which ends before a semicolon, has begun something that goes on to the end of the line."""
        for index, (param, _) in enumerate(self.params, 1):
            if param in _TO_END_OF_LINE:
                return len(piece.split()) > index
        return False


_FORMS: Final = {usage.split()[0]: _Form.of(usage) for usage in STEPS}


def parse(text: str) -> tuple[Step, ...]:
    """Split a prompt into steps.

    Raises:
        ScriptError: a step is not written as it should be.
    """
    pieces = [piece for line in text.splitlines() for piece in _pieces(line)]
    if not any(piece.split()[0] in _FORMS for piece in pieces):
        return (Step("echo", text.strip()),)
    return tuple(_step(number, piece) for number, piece in enumerate(pieces, 1))


def _pieces(line: str) -> list[str]:
    pieces = []
    while line := line.strip(" \t;"):
        piece, _, rest = line.partition(";")
        form = _FORMS.get(piece.split()[0])
        if form is not None and form.takes_line(piece):
            piece, rest = line, ""
        pieces.append(piece.strip())
        line = rest
    return pieces


def _step(number: int, piece: str) -> Step:
    name, rest = _first_word(piece)
    form = _FORMS.get(name)
    if form is None:
        return Step("echo", piece)
    try:
        return _read(name, form, rest)
    except ScriptError as error:
        shown = piece if len(piece) <= 60 else piece[:57] + "..."
        raise ScriptError(f"step {number}, {shown!r}: {error} (it is written: {form.usage})") from None


def _read(name: str, form: _Form, rest: str) -> Step:
    options, rest = _options(form, rest)
    numbers: list[float] = []
    text, data = "", None
    for param, required in form.params:
        if not rest:
            if required:
                raise ScriptError(f"{param} is missing")
            break
        if param == "JSON":
            data, rest = _json(rest), ""
        elif param in _COUNTS or param in {"SECONDS", "CODE"}:
            word, rest = _first_word(rest)
            numbers.append(_number(param, word))
        elif param in _WORDS:
            text, rest = _first_word(rest)
        else:
            text, rest = rest, ""
    if rest:
        raise ScriptError(f"{rest!r} is too much")
    return Step(name, text, tuple(numbers), options, data)


def _first_word(text: str) -> tuple[str, str]:
    word, *rest = text.split(None, 1)
    return word, rest[0] if rest else ""


def _options(form: _Form, rest: str) -> tuple[dict[str, str], str]:
    if not form.options:
        return {}, rest
    options, words = {}, []
    for word in rest.split():
        key, equals, value = word.partition("=")
        if equals and key in form.options:
            options[key] = value
        else:
            words.append(word)
    if "every" in options:
        _number("SECONDS", options["every"])
    for key in options.keys() & {"line", "limit"}:
        _number("N", options[key])
    return options, " ".join(words)


def _number(param: str, word: str) -> float:
    try:
        number = float(word) if param == "SECONDS" else int(word)
    except ValueError:
        raise ScriptError(f"{param} cannot be {word!r}") from None
    if math.isnan(number) or (number < 0 and param != "CODE"):
        raise ScriptError(f"{param} cannot be {word!r}")
    return number


def _json(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError as error:
        raise ScriptError(f"JSON is not valid: {error}") from None
