"""What importing a library costs: ``python -m benchmarks.startup SIZES MODULE`` prints seconds and memory.

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
__import__(sys.argv[1])
print(time.process_time() - begun, resident() - before)
"""


def once(module: str) -> tuple[float, float]:
    """Import a module in a fresh interpreter; return the processor's seconds, and the memory in MiB."""
    done = subprocess.run([sys.executable, "-c", _ONE, module], capture_output=True, text=True, check=True)
    seconds, memory = map(float, done.stdout.split())
    return seconds, memory


def main(sizes: str, module: str) -> None:
    """Measure, print."""
    once(module)  # which compiles it, if nobody did before
    took = [once(module) for _ in range(load(sizes).batches)]
    found = {
        "import": statistics.median(seconds for seconds, _ in took) * 1e3,
        "import_memory": statistics.median(memory for _, memory in took),
    }
    print(json.dumps({"about": f"import {module}", "found": found}))


if __name__ == "__main__":
    main(*sys.argv[1:])
