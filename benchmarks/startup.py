"""What a library's start costs: ``python -m benchmarks.startup SIZES IMPORT USE`` prints seconds and memory.

IMPORT is a statement; USE is one that takes what is then left to import for a client over WebSocket, since a
library may put that off.

Only the standard library is used, as in `sizes`.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys

from .sizes import load

_ONE = """
import sys, time
def resident():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmRSS")) / 1024
before, begun = resident(), time.process_time()
exec(sys.argv[1])
imported = time.process_time() - begun
exec(sys.argv[2])
print(imported, time.process_time() - begun, resident() - before)
"""


def once(statement: str, use: str) -> tuple[float, float, float]:
    """Start in a fresh interpreter; return the processor's seconds of either statement, and the memory in MiB."""
    done = subprocess.run([sys.executable, "-c", _ONE, statement, use], capture_output=True, text=True, check=True)
    imported, used, memory = map(float, done.stdout.split())
    return imported, used, memory


def main(sizes: str, statement: str, use: str) -> None:
    """Measure, print."""
    once(statement, use)  # which compiles what is imported, if nobody did before
    times = range(1 + load(sizes).batches // 4)
    imported, used, memory = zip(*(once(statement, use) for _ in times), strict=True)
    found = {
        "import": statistics.median(imported) * 1e3,
        "import_used": statistics.median(used) * 1e3,
        "import_memory": statistics.median(memory),
    }
    print(json.dumps({"about": f"{statement}; {use}", "found": found}))


if __name__ == "__main__":
    main(*sys.argv[1:])
