"""Finding what cancellation, faults and the order of tasks can break, in any Trio code.

A scenario is an async function.  It is run under virtual time again and again,
each time with one thing done to it in the middle of some step of some task
(cancelled, interrupted, a clock jump, an exception, a callback of yours), or
with its tasks in another order.  What goes wrong is made small, printed step
by step, and kept as a tape that replays it.

Imports nothing of the rest of the package, and knows nothing of ACP.
"""

from ._actions import Call as Call
from ._actions import Cancel as Cancel
from ._actions import Interrupt as Interrupt
from ._actions import Jump as Jump
from ._actions import Raise as Raise
from ._actions import Strike as Strike
from ._case import Case as Case
from ._decorator import ExplorationFailed as ExplorationFailed
from ._decorator import explored as explored
from ._explorer import Plan as Plan
from ._explorer import explore as explore
from ._explorer import replay as replay
from ._guard import Forbidden as Forbidden
from ._report import Finding as Finding
from ._report import Report as Report
from ._run import Step as Step
from ._scenario import Scenario as Scenario
from ._steering import Unsteerable as Unsteerable
from ._tape import BadTape as BadTape
from ._tape import Tape as Tape
