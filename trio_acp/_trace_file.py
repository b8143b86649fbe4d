"""The trace as a file: an instrument that writes what happens to turns, one JSON object a line.

`TraceFile.record` only puts a record into a queue; a thread of its own encodes
and writes.  So a disk that is slow, full or gone holds up no turn, no task of
Trio is needed, and listening changes no schedule.  What waits for the thread
waits by the real clock, so that a program under test may have a mock one.

The first line is a header: the version of the format, and the instant at which
the file was begun, by Trio's clock, by which all records are timed, and by the
wall clock.  No line has a prompt, a text of an agent or the arguments of a
tool; there are the keys of sessions, reasons that were given, and the messages
of errors.
"""

from __future__ import annotations

import datetime as dt
import json
import logging
import math
import os
import queue
import stat
import threading
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

import attrs
import trio

from ._errors import InvalidOption, UsageError
from ._service import shielded
from .abc import Instrument

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from ._trace import TraceRecord

_log = logging.getLogger(__name__)

VERSION: Final = 1
_DISK_LIMIT: Final = 5.0
"""Seconds that entering, and again leaving, waits for the disk."""
_LONGEST_TEXT: Final = 2000
_LONGEST_BATCH: Final = 1000


class TraceFile(Instrument):
    """Writes the trace of a manager into a file, which ``trio-acp timeline`` shows.

    An async context manager, entered around the manager that it listens to::

        async with trio_acp.TraceFile("turns.jsonl") as trace:
            async with trio_acp.open_session_manager(runtimes, instrument=trace) as manager:
                ...

    Entering makes the file, for its owner's eyes only, or empties it.  Leaving
    waits until everything is written.  Each takes at most 5 seconds of real
    time, also when cancelled, and entering then raises `trio.Cancelled`.

    The manager does not enter it: one that was not entered writes nothing, and
    says so once, as a warning.  A disk that fails is told once, as a
    warning in the log; the rest of the trace is lost, and nothing else changes.
    If it is too slow, records that find no room are left out, and the file says
    how many.

    Args:
        path: The file; what it has is replaced.
        events: Whether each event of a turn is a record too.
        max_waiting: Records that may wait for the disk.

    Raises:
        InvalidOption: `max_waiting` is no number of at least 1; or, by entering,
            the file cannot be written, or is none of the ordinary kind.
        UsageError: by entering it a second time.
    """

    def __init__(self, path: str | os.PathLike[str], *, events: bool = True, max_waiting: int = 100_000) -> None:
        if type(max_waiting) is not int or max_waiting < 1:
            raise InvalidOption(
                f"max_waiting must be a whole number of at least 1, not {max_waiting!r}", detail="invalid-max_waiting"
            )
        self.events = events
        self._path = os.fspath(path)
        self._max_waiting = max_waiting
        self._waiting: queue.SimpleQueue[TraceRecord | None] = queue.SimpleQueue()
        self._lost = 0  # only the side of Trio counts; the thread remembers what it has told
        self._listening = False
        self._complained = False
        self._opened = threading.Event()
        self._problem: Exception | None = None
        self._thread: threading.Thread | None = None
        # Not the run's own: threads of others must not keep this one from ending.
        self._limiter = trio.CapacityLimiter(1)

    def __repr__(self) -> str:
        return f"<TraceFile {self._path!r}>"

    async def __aenter__(self) -> Self:
        """Open the file and begin to listen."""
        if self._thread is not None:
            raise UsageError(f"the trace file {self._path} has been entered before", detail="trace-in-use")
        wall = dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds")
        header = {"trace": "trio-acp", "version": VERSION, "clock": trio.current_time(), "wall": wall}
        # A daemon: a disk that never answers keeps no program from ending.
        self._thread = threading.Thread(
            target=self._run, args=(_line(header),), name=f"trio_acp trace {self._path}", daemon=True
        )
        self._thread.start()
        try:
            answered = await trio.to_thread.run_sync(self._opened.wait, _DISK_LIMIT, limiter=self._limiter)
        except trio.Cancelled:
            self._waiting.put(None)
            raise
        if not answered or self._problem is not None:
            self._waiting.put(None)
            why = getattr(self._problem, "strerror", None) or self._problem or "the disk does not answer"
            raise InvalidOption(f"cannot write the trace {self._path}: {why}", detail="invalid-trace")
        self._listening = True
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        """Stop listening and wait until all is written."""
        assert self._thread is not None
        self._listening = False
        self._waiting.put(None)
        with shielded(_DISK_LIMIT):  # the thread that waits for the thread keeps the time
            await trio.to_thread.run_sync(self._thread.join, _DISK_LIMIT, limiter=self._limiter)
        if self._thread.is_alive():
            _log.warning("the trace %s is not complete: the disk does not answer", self._path)

    def record(self, record: TraceRecord) -> None:
        """Take one record; it is written a little later."""
        if not self._listening:
            if self._thread is None and not self._complained:
                self._complained = True
                _log.warning("nothing is written to the trace %s: it is entered first, with `async with`", self._path)
            return
        if self._waiting.qsize() < self._max_waiting:
            self._waiting.put(record)
        else:
            self._lost += 1

    # -- in the thread --------------------------------------------------------

    def _run(self, header: str) -> None:
        try:
            fd = _open(self._path)
        except (OSError, ValueError) as error:
            self._problem = error
            return
        finally:
            self._opened.set()
        try:
            _write(fd, header)
            self._write_records(fd)
        except OSError as error:
            self._listening = False
            _log.warning("the trace %s ends here: %s", self._path, error.strerror or error)
        finally:
            os.close(fd)

    def _write_records(self, fd: int) -> None:
        told = 0
        at_end = False
        while not at_end:
            batch = [self._waiting.get()]
            while batch[-1] is not None and len(batch) < _LONGEST_BATCH and not self._waiting.empty():
                batch.append(self._waiting.get())
            at_end = batch[-1] is None
            lines = [_record_line(record) for record in batch if record is not None]
            lost = self._lost
            if lost > told:
                lines.append(_line({"lost": lost - told}))
                told = lost
            _write(fd, "".join(lines))


def _open(path: str) -> int:
    """Open the file for its owner only, emptied.

    Raises:
        OSError: it cannot be opened, or is a pipe, a terminal or the like.
        ValueError: no file can have that name.
    """
    # Without blocking: to open a pipe that nobody reads would take for ever.
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, 0o600)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError("it is not an ordinary file")
        os.fchmod(fd, 0o600)
        os.ftruncate(fd, 0)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _write(fd: int, text: str) -> None:
    data = text.encode("ascii")
    while data:
        data = data[os.write(fd, data) :]


def _record_line(record: TraceRecord) -> str:
    told = {"name": record.name, "time": record.time, "session": record.session, "turn": record.turn}
    if not record.data:
        return _line(told)
    try:
        return _line({**told, "data": _plain(record.data)})
    except Exception as error:  # noqa: BLE001 - data of any shape may be in a record; the record itself counts
        return _line({**told, "data": {"unprintable": type(error).__name__}})


def _line(value: dict[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":")) + "\n"


def _plain(value: Any) -> Any:
    """Return a value as JSON has it; numbers that JSON lacks as text, and what else it lacks as Python shows it."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if attrs.has(type(value)):
        return {field.name: _plain(getattr(value, field.name)) for field in attrs.fields(type(value))}
    if isinstance(value, Mapping):
        return {str(key): _plain(member) for key, member in value.items()}
    if isinstance(value, Iterable) and not isinstance(value, str | bytes):
        return [_plain(member) for member in value]
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= _LONGEST_TEXT else text[: _LONGEST_TEXT - 1] + "…"
