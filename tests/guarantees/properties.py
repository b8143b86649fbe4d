"""The properties I1 to I25: what each says, which laws of the oracle judge it, and in which runs they do.

A law may look away: at a scene whose agent lies, or after a strike that
excuses an error.  `Judge.when` says so again, for the counts; a test spoils
runs to see that both agree.
"""

from __future__ import annotations

import inspect
import re
from typing import TYPE_CHECKING, Final

import attrs

from trio_acp.testing import turn_model
from trio_acp.testing._scenario_oracle import AFTER_AN_INTERRUPT, LAWS
from trio_acp.testing._scenario_world import ACTIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from trio_acp.testing._scenario_world import Scene

    Causes = frozenset[str]


def cause_of(action: str) -> str:
    """Return the short name of an action: ``call:cut`` is ``cut``, ``jump:30`` is ``jump``."""
    return action.removeprefix("call:").partition(":")[0]


STRIKES: Final = (*(cause_of(action.name) for action in ACTIONS), "interrupt")
CAUSES: Final = ("none", *STRIKES, "pairs")
"""What was done to a run: nothing (but perhaps another order of its tasks), one thing, or two."""
HOSTILE: Final = frozenset({"cut", "death", "shutdown", "vanish", "jump"})
"""What callers may get an error for."""
ENDS: Final = "ends"


@attrs.frozen
class Judge:
    """A law of the oracle, as far as it judges one property.

    Attributes:
        says: What it asks for.
        when: Whether it looks at a run of this scene that these causes struck.
        why: Why it does not look at the others.
    """

    law: str
    says: str
    when: Callable[[Scene, Causes], bool] = lambda scene, causes: True
    why: str = ""


def _peaceful(scene: Scene, causes: Causes) -> bool:
    return not (scene.fails or causes & HOSTILE)


_CONDITIONS: Final[dict[tuple[str, str], tuple[Callable[[Scene, Causes], bool], str]]] = {
    ("i4_attribution", "I4"): (
        lambda scene, causes: not scene.liar,
        "what an agent sends after it has lied about a cancel cannot be told from what the next prompt made it say",
    ),
    ("i8_latency", "I8"): (
        lambda scene, causes: bool(causes & {"cancel", "shutdown", "vanish"}),
        "seen from outside, only who is cancelled has to go on; what the user stops is the model's",
    ),
    ("i12_propagation", "I12"): (
        lambda scene, causes: "cancel" in causes,
        "only a cancelled caller can swallow its cancellation",
    ),
    ("at_every_instant", "I12"): (
        lambda scene, causes: "cancel" in causes,
        "only a cancelled caller could submit another prompt all the same",
    ),
    ("i13_truth", "I13"): (
        lambda scene, causes: not scene.liar or _peaceful(scene, causes),
        "an agent that lies may leave words out, and what may fail may fail; the model's part of I13 is always judged",
    ),
    ("at_every_instant", "I17"): (
        lambda scene, causes: bool(causes),
        "the session is used once more only after a strike",
    ),
    ("at_every_instant", "I18"): (
        lambda scene, causes: bool(causes),
        "it is looked at when the session is used once more, after a strike",
    ),
    ("i18_closed", "I18"): (
        lambda scene, causes: "jump" not in causes,
        "the clock may have gone past the deadline of closing",
    ),
    ("i20_isolation", "I20"): (
        _peaceful,
        "after such a strike, or in a scenario that fails by design, a caller may get an error",
    ),
    ("i22_reverse_requests", "I22"): (
        lambda scene, causes: _peaceful(scene, causes) and not scene.liar,
        "a handle is rightly suspect after such a strike, or with such an agent",
    ),
}

ELSEWHERE: Final = {
    "I18": ("each handle ends exactly once", ("tests/test_manager_machine.py",)),
    "I19": ("only an idle handle is evicted, and check and take are one step", ("tests/test_evictor.py",)),
    "I23": ("shields are finite, and from one place", ("tests/test_house_rules.py", "tests/test_service.py")),
}
"""What no run shows, or not all of it, with the tests that do."""


def _numbers(text: str) -> list[str]:
    """Read ``I1, I5 to I7``."""
    found: list[str] = []
    for first, last in re.findall(r"I(\d+)(?: to I(\d+))?", text):
        found += (f"I{number}" for number in range(int(first), int(last or first) + 1))
    return found


def _judges() -> dict[str, list[Judge]]:
    found: dict[str, list[Judge]] = {f"I{number}": [] for number in range(1, 26)}
    for law in LAWS:
        which, _, says = (inspect.getdoc(law) or "").partition("\n")[0].partition(": ")
        for number in _numbers(which):
            text = turn_model.LAWS[number] if law.__name__ == "model" else says
            if law.__name__ == "at_every_instant":
                text = _AT_EVERY_INSTANT[number]
            when = _CONDITIONS.get((law.__name__, number), (lambda scene, causes: True, ""))
            found[number].append(Judge(law.__name__, text, *when))
    return found


_AT_EVERY_INSTANT: Final = {
    "I12": "a cancelled caller submits nothing more.",
    "I17": "after a strike, the session's next turn succeeds.",
    "I18": "after a strike, when all is quiet, each slot that is taken has its handle.",
    "I20": "at every record of the trace, no more slots are taken than there are.",
    "I25": "at every record of the trace, the counts add up.",
}

JUDGES: Final = _judges()
"""By property; empty for what is tested elsewhere only."""
PROPERTIES: Final = (ENDS, *JUDGES)
_AFTERWARDS: Final = frozenset(law.__name__ for law in AFTER_AN_INTERRUPT) | {"i21_closure"}


def judged(scene: Scene, causes: Causes, *, cut_short: bool = False) -> tuple[str, ...]:
    """Return the properties that at least one law judged in a run; `cut_short` by Ctrl-C, only a few laws do."""
    return tuple(
        name
        for name, judges in JUDGES.items()
        if any(judge.when(scene, causes) and (not cut_short or judge.law in _AFTERWARDS) for judge in judges)
    )


def after_an_interrupt() -> list[str]:
    """Return the properties that are judged, at least in part, even if Ctrl-C has ended the program."""
    return [name for name, judges in JUDGES.items() if any(judge.law in _AFTERWARDS for judge in judges)]


def broken_in(message: str) -> frozenset[str]:
    """Return the properties that the oracle's message says were broken.

    Each line that begins with the name of a law tells of one; the model and
    what is seen at every instant name the property next.
    """
    found = set()
    for law, text in re.findall(r"(?m)^(\w+): (.*)", message):
        own = [name for name, judges in JUDGES.items() if any(judge.law == law for judge in judges)]
        told = re.match(r"I\d+", text)
        found |= {told[0]} if told and told[0] in own else set(own[:1])
    return frozenset(found)


def says(name: str) -> Iterable[str]:
    """Yield what a property says, once for each law that judges it."""
    if name == ENDS:
        yield (
            "every run comes to an end: no deadlock, livelock, leak or stray exception, and the same steps if repeated"
        )
    for judge in JUDGES.get(name, ()):
        yield f"{judge.says.rstrip('.')} (`{judge.law}`)"
    if name in ELSEWHERE:
        text, tests = ELSEWHERE[name]
        yield f"{text}: {', '.join(f'`{test}`' for test in tests)}"
