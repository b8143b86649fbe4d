"""What a client may do for an agent: read and write files, run commands.  Nothing of it is on by default.

No protocol here: `trio_acp.acp` translates the agent's requests.
"""

from __future__ import annotations

from ._client import ClientServices
from ._refused import Refused
from .files import FileService
from .terminals import TerminalService

__all__ = ["ClientServices", "FileService", "Refused", "TerminalService"]
