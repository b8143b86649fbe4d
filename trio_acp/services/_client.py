"""Which services a client offers to its agents."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from .._errors import InvalidOption
from .files import FileService
from .terminals import TerminalService

if TYPE_CHECKING:
    from typing import Any


@attrs.frozen(kw_only=True)
class ClientServices:
    """What an agent may ask of us, besides permissions: files, terminals, both or neither.

    ACP: ``fs/read_text_file`` and ``fs/write_text_file``; ``terminal/create`` and what follows it.
    Exactly what is here is announced when a connection is made, and what is not
    here is answered "method not found".  To give a service *is* the grant: a
    request for a file or a terminal is not shown to the `PermissionPolicy`.
    Agents ask for permission first, with ``session/request_permission``, and a
    person should not have to answer the same question twice.

    Everything happens inside the directory that the session was opened with,
    its root.  That bounds what an agent does *through us*.  It is no sandbox:
    an agent on this machine has the rights of its own process besides, and a
    command that it may run can do whatever that command can.

    Args:
        files: How it may read and write files; None: not at all.
        terminals: Which commands it may run; None: none.

    Raises:
        InvalidOption: something else was given.
    """

    files: FileService | None = None
    terminals: TerminalService | None = None

    def __attrs_post_init__(self) -> None:
        for name, value, wanted in (
            ("files", self.files, FileService),
            ("terminals", self.terminals, TerminalService),
        ):
            _require(name, value, wanted)


def _require(name: str, value: Any, wanted: type) -> None:
    if value is not None and not isinstance(value, wanted):
        raise InvalidOption(f"{name} must be a {wanted.__name__} or None, not {value!r}", detail=f"invalid-{name}")
