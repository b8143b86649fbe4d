"""What the Python clients' command lines have in common: ``SIZES ADDRESS WHAT [OPTION]``.

Only the standard library is used, as in `sizes`.
"""

from __future__ import annotations

import json
import platform
from dataclasses import dataclass
from importlib.metadata import version

from ..sizes import Sizes, load
from .driver import Address, Client, alone, drive, watch_stall


@dataclass(frozen=True)
class Task:
    """What a client is asked to do.

    Attributes:
        what: ``all``; or ``alone``, one session only; or ``stall``, for which a process of its own is needed.
        option: What the side adds: the engine of trio_acp.
    """

    sizes: Sizes
    address: Address
    what: str
    option: str = ""

    async def run(self, client: Client) -> dict[str, float]:
        """Do it."""
        if self.what == "stall":
            return await watch_stall(client, self.sizes)
        if self.what == "alone":
            return await alone(client, await client.new_session(await client.connect()), self.sizes, "wire")
        return await drive(client, self.sizes, secure=self.address.secure is not None)


def parse(argv: list[str]) -> Task:
    """Return what the command line asks for."""
    sizes, address, what, *option = argv
    return Task(load(sizes), Address(**json.loads(address)), what, *option)


def tell(found: dict[str, float], *packages: str) -> None:
    """Print what was found, and of which versions."""
    about = ", ".join([*(f"{name} {version(name)}" for name in packages), f"Python {platform.python_version()}"])
    print(json.dumps({"about": about, "found": found}), flush=True)
