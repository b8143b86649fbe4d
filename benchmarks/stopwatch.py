"""What a piece of work took: on the wall, and of the processor.

Only the standard library is used, as in `sizes`.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


@dataclass(frozen=True)
class Took:
    """Seconds for one piece of work.

    Attributes:
        wall: As a clock on the wall shows them.
        cpu: Of the processor, for all threads of the process, in the kernel too.
    """

    wall: float
    cpu: float


async def timed(work: Callable[[], Awaitable[object]], *, times: int = 1) -> Took:
    """Do a piece of work some times over; return the median of each clock."""
    took: list[Took] = []
    for _ in range(times):
        wall, cpu = time.perf_counter(), time.process_time()
        await work()
        took.append(Took(time.perf_counter() - wall, time.process_time() - cpu))
    return Took(statistics.median(each.wall for each in took), statistics.median(each.cpu for each in took))


def resident() -> float:
    """Return the memory of this process that is in RAM, in MiB."""
    fields = Path("/proc/self/status").read_text("ascii").splitlines()
    (line,) = (line for line in fields if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024
