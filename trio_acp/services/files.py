"""Files for an agent: whole text files, inside one directory, in threads that are waited for with a deadline."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final, TypeVar

import attrs
import trio

from .._errors import InvalidOption
from ..transports._checks import require_seconds
from ._refused import Refused
from ._replace import Gate, replace
from ._root import components, open_directory, open_file, refusal

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

_THREADS: Final = 4
_PIECE: Final = 2**20


def _require_bytes(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InvalidOption(f"{name} must be a whole number of at least 1, not {value!r}", detail=f"invalid-{name}")


@attrs.frozen(kw_only=True)
class FileService:
    """Lets agents read and write text files below their session's directory.

    Only regular files, only UTF-8; no symbolic link is followed, and ``..`` is
    refused.  A write replaces the file as a whole or not at all, and makes the
    directories that are missing on the way.

    A write that was cancelled, or took too long, is given up before its last
    step, the rename, or not at all: if the file system hangs in that very step,
    the agent is answered in time, with an error, and the file may still be
    replaced later.

    Args:
        read: Whether files may be read.
        write: Whether files may be written.
        max_read: Bytes of the largest file that may be read.
        max_write: Bytes of the largest file that may be written.
        timeout: Seconds that one request may take; a file system may hang.

    Raises:
        InvalidOption: a value cannot be, or neither reading nor writing is on.
    """

    read: bool = True
    write: bool = True
    max_read: int = 4 * 2**20
    max_write: int = 4 * 2**20
    timeout: float = 10.0

    def __attrs_post_init__(self) -> None:
        _require_bytes("max_read", self.max_read)
        _require_bytes("max_write", self.max_write)
        require_seconds("timeout", self.timeout)
        if not (self.read or self.write):
            raise InvalidOption("a FileService must read or write; give None for neither", detail="invalid-files")


class Files:
    """The files of one session.

    Args:
        service: What is allowed, and how much of it.
        root: The session's directory.
    """

    def __init__(self, service: FileService, root: str) -> None:
        self._service = service
        self._root = root
        # A thread that hangs in a file system keeps its place: four of them, and the session has no files any more.
        self._limiter = trio.CapacityLimiter(_THREADS)

    async def read(self, path: str, *, line: int | None = None, limit: int | None = None) -> str:
        """Return a text file, or some of its lines, with their line ends.

        If cancelled, it is not waited for any more.

        Args:
            path: An absolute path inside the root.
            line: The first line, counted from 1; the first of all if None or 0.
            limit: How many lines; all if None.

        Raises:
            Refused: why the agent does not get it.
        """
        for name, value in (("line", line), ("limit", limit)):
            if value is not None and value < 0:
                raise Refused("invalid", f"{path!r}: {name} must be at least 0, not {value}")
        content = await self._in_thread(path, lambda: self._read(path))
        try:
            text = content.decode()
        except UnicodeDecodeError as error:
            raise Refused("invalid", f"{path!r} is not UTF-8 text: see byte {error.start}") from error
        if line is None and limit is None:
            return text
        first = max((line or 1) - 1, 0)
        lines = text.split("\n")  # not splitlines: form feeds and the like end no line for an editor
        end = len(lines) if limit is None else first + limit
        chosen = "\n".join(lines[first:end])
        return f"{chosen}\n" if first < end < len(lines) else chosen

    async def write(self, path: str, content: str) -> None:
        """Give a file this content, whole or not at all.

        If cancelled before the last step had begun, it does not happen; a last
        step that had begun is not waited for, and may still happen.

        Raises:
            Refused: why nothing was written.
        """
        try:
            encoded = content.encode()
        except UnicodeEncodeError as error:
            raise Refused(
                "invalid", f"{path!r}: the content is not text: character {error.start} is half a surrogate pair"
            ) from error
        if len(encoded) > self._service.max_write:
            raise Refused(
                "invalid", f"{path!r}: {len(encoded)} bytes are more than may be written: {self._service.max_write}"
            )
        gate = Gate()
        try:
            await self._in_thread(path, lambda: self._write(path, encoded, gate))
        finally:
            gate.withdraw()  # whoever leaves, for whatever reason: what has not begun may not begin behind his back

    async def _in_thread(self, path: str, work: Callable[[], T]) -> T:
        """Run `work` in a thread, for a limited time.  If cancelled, the thread is left to itself."""
        with trio.move_on_after(self._service.timeout):
            return await trio.to_thread.run_sync(work, abandon_on_cancel=True, limiter=self._limiter)
        raise Refused("failed", f"{path!r}: the file system did not answer within {self._service.timeout:g} s")

    def _read(self, path: str) -> bytes:
        *directory, name = self._names(path)
        with open_directory(self._root, directory, path) as parent:
            try:
                opened, _ = open_file(parent, name, path, os.O_RDONLY)
            except FileNotFoundError as error:
                raise Refused("missing", f"{path!r}: there is no such file") from error
            most, content = self._service.max_read, bytearray()
            try:
                # What it says of its size is not asked: it may grow, and some files say 0.
                while data := os.read(opened, min(most + 1 - len(content), _PIECE)):
                    content += data
            except OSError as error:
                raise refusal(error, name, path) from error
            finally:
                os.close(opened)
            if len(content) > most:
                raise Refused("invalid", f"{path!r} has more bytes than may be read: {most}")
            return bytes(content)

    def _write(self, path: str, content: bytes, gate: Gate) -> None:
        *directory, name = self._names(path)
        with open_directory(self._root, directory, path, create=True) as parent:
            replace(parent, name, path, content, gate)

    def _names(self, path: str) -> list[str]:
        if not (names := components(self._root, path)) or path.endswith("/"):
            raise Refused("invalid", f"{path!r} is a directory")
        return names
