"""What is known about an agent that has a name, wherever it comes from."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from ..transports._engines import Engine


@attrs.frozen(kw_only=True)
class AgentSpec:
    """A named agent: a program, an address, or something that would have to be downloaded first.

    Attributes:
        origin: Where the name comes from: ``config``, ``built-in`` or ``registry``.
        argv: The program and its arguments.
        url: Where it listens, instead.
        engine: What frames the messages, if it has a URL.
        env: Added to our environment for the program.
        cwd: Where the program runs.
        hint: How a person gets the program; it is never run.
        archive: What would have to be downloaded, if that is all there is.
    """

    name: str
    origin: str
    argv: tuple[str, ...] | None = None
    url: str | None = None
    headers: tuple[tuple[str, str], ...] = attrs.field(default=(), repr=False)
    token_file: Path | None = None
    ca_file: Path | None = None
    engine: Engine = "trio-websocket"
    env: Mapping[str, str] = attrs.field(factory=dict, repr=False)
    cwd: str | None = None
    auth_method: str | None = None
    hint: str | None = None
    archive: str | None = None

    @property
    def shown(self) -> str:
        """The command or the address, without what may be secret."""
        if self.argv is not None:
            return shlex.join(self.argv)
        if self.url is not None:
            return self.url.partition("?")[0]
        return f"(download {self.archive})"
