"""The command ``trio-acp``, which ``python -m trio_acp`` is too."""

from __future__ import annotations

import sys


def main() -> int:
    """Load the command line and run it; return its exit code.

    Raises:
        SystemExit: what `trio_acp.cli.main` raises.
    """
    try:
        from .cli import main as run  # here: most of the time until something happens goes into loading

        return run()
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
