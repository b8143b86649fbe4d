"""The rules of public docstrings, as far as a machine can check them.

Whether a law is true is for the tests of the code; that each name has one,
that its errors are all of them and none that cannot be, and that its words of
the protocol are words of the protocol, is checked here.
"""

from __future__ import annotations

import builtins
import inspect
import re
import sys
from typing import TYPE_CHECKING, Any, Final

import attrs
import trio

import trio_acp
from tests.docstring_kit import Doc, Subject

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.docstring_errors import Code

NO_TIMES: Final = {
    "Cost": {"amount"},  # money
    "memory_transport_pair": {"capacity"},  # messages, or infinitely many
    "Plan": {"strikes", "max_schedules"},  # runs, or infinitely many
    "Step.number": {"default", "number"},  # whatever the step says it is
}
"""Numbers that may be fractions or infinite, and measure no time; by the ends of names."""

CANNOT: Final = {
    "trio_acp.AcpRuntime.set_mode": {"InvalidOption"},  # from a helper, for a boolean, which no mode is
    # The decorator `law` makes an AssertionError of whatever is raised.
    "trio_acp.testing.RuntimeContract.test_a_turn_that_exceeds_its_deadline_leaves_a_session_that_can_be_used": {
        "InvalidOption",
        "UsageError",
    },
}
"""What the calls say can be raised, and reading them says cannot."""

HANDED_OVER: Final = frozenset({"trio_acp.Turn.__anext__", "trio_acp.abc.SessionStore.update_nowait"})
"""What raises an error that another task, or only a class that implements it, has made."""


@attrs.frozen
class World:
    """What is checked.

    Attributes:
        subjects: Every public name.
        code: What is behind them.
        sources: Which of them must name which source.
        words: What the protocol knows.
    """

    subjects: list[Subject]
    code: Code
    sources: dict[str, str]
    words: frozenset[str]

    def find(self, name: str, near: Subject) -> Subject | None:
        """Return what a docstring means by a name: in the same class, or anywhere by the end of its full name."""
        if near.owner is not None and (found := self.named(f"{near.owner.name}.{name}")):
            return found
        return next((subject for subject in self.subjects if subject.name.endswith(f".{name}")), None)

    def named(self, name: str) -> Subject | None:
        """Return the subject of this full name."""
        return next((subject for subject in self.subjects if subject.name == name), None)

    def texts(self, subject: Subject) -> Iterator[str]:
        """Yield its docstring, and those of which it says that they hold for it too; of a class, its method's."""
        yield subject.text or ""
        for name in REFERENCE.findall(subject.text or ""):
            other = self.find(name, subject)
            if other is not None and other.is_class and subject.owner is not None:
                method = self.named(f"{other.name}.{subject.value.__name__}")
                other = other if method in {None, subject} else method
            if other is not None and other is not subject:
                yield other.text or ""


REFERENCE: Final = re.compile(r"\b(?:those of|that of|as for|as of|as in|as|see)\s+`([\w.]+)`", re.IGNORECASE)
ENDS: Final = ("__aenter__", "__aexit__")
OF_EVERY_METHOD: Final = re.compile(r"Every method\b[^.]*\.")
LAW: Final = re.compile(r"\bcancelled\b|\bcancellation\b|\bcheckpoint\b", re.IGNORECASE)
SECONDS: Final = re.compile(r"\bseconds?\b|\d s\b", re.IGNORECASE)

# -- the rules ----------------------------------------------------------------


def says_what_it_does(subject: Subject, world: World) -> Iterator[str]:
    """There is a docstring, and its first line is a sentence by itself."""
    first = (subject.text or "").partition("\n")[0]
    if not first:
        yield "has no docstring"
    elif not first.endswith(".") or first.endswith("..."):
        yield f"its first line does not end with a full stop: {first!r}"


def says_its_cancellation_law(subject: Subject, world: World) -> Iterator[str]:
    """Whatever may wait says what being cancelled means there; a context manager's class may say it for both ends."""
    if subject.is_async:
        texts = list(world.texts(subject))
        if subject.owner is not None:
            said = subject.owner.text or ""
            texts += [said] if subject.value.__name__ in ENDS else OF_EVERY_METHOD.findall(said)
        # Not "cancelled" as a word of the protocol.
        if not any(LAW.search(re.sub(r"``.*?``", "", text)) for text in texts):
            yield "is async and says nothing of being cancelled"


def names_its_errors(subject: Subject, world: World) -> Iterator[str]:
    """What its code surely raises is in ``Raises:``; for both ends of a block, its class may say so."""
    if subject.documents or subject.is_abstract:
        return
    told = list(world.texts(subject))
    if subject.owner is not None and subject.value.__name__ in {"__aenter__", "__aexit__"}:
        told.append(subject.owner.text or "")
    errors = tuple(error for text in told for error in documented(text, subject))
    excepted = CANNOT.get(subject.name, set())
    if subject.owner is not None:
        told_of_all = " ".join(OF_EVERY_METHOD.findall(subject.owner.text or ""))
        excepted = excepted | set(re.findall(r"`(\w+)`", told_of_all))
    excepted = excepted | set(re.findall(r"`(\w+Error)`", (subject.text or "").partition("\n")[0]))
    for error in sorted(world.code.raised(subject.value), key=lambda error: error.__name__):
        if not issubclass(error, (*errors, *NOT_TOLD)) and error.__name__ not in excepted:
            yield f"raises {error.__name__} and does not say so"


NOT_TOLD: Final = (AssertionError, StopAsyncIteration, NotImplementedError, trio.Cancelled)
"""Errors of ours, and what the language wants."""


def names_no_other_errors(subject: Subject, world: World) -> Iterator[str]:
    """What is in ``Raises:`` exists, and something that its code may call names it."""
    if subject.documents:
        return
    owner = None if subject.owner is None else subject.owner.value
    anything = subject.is_abstract or subject.name in HANDED_OVER
    mentioned = world.code.mentioned(subject.value, owner)
    for name in subject.doc.errors:
        error = meaning(name, subject)
        if error is None:
            yield f"there is no error {name}"
        elif not anything and not any(issubclass(other, error) for other in mentioned | BY_OTHERS):
            yield f"cannot raise {name}"


BY_OTHERS: Final = frozenset(
    {OSError, SystemExit, KeyError, TypeError, RuntimeError, trio.BusyResourceError, trio.WouldBlock}
)
"""What comes out of the standard library and Trio without being named here."""


def says_seconds(subject: Subject, world: World) -> Iterator[str]:
    """Each number that is a time says its unit: where it is described, or "in seconds" for all of them."""
    if subject.documents:
        return
    docs = [Doc.of(text) for text in world.texts(subject)]
    for name in times(subject):
        said = [doc.entry(name) or doc.prose for doc in docs] + re.findall(r"[^.]*\bin\s+seconds\b", docs[0].prose)
        if "seconds" not in name and not any(map(SECONDS.search, said)):
            yield f"does not say that {name} is in seconds"


def times(subject: Subject) -> Iterator[str]:
    """Yield the parameters, fields and results that are times: numbers that may be fractions."""
    hints: dict[str, Any] = {}
    if subject.is_class:
        for cls in subject.value.__mro__:
            hints |= {name: hint for name, hint in vars(cls).get("__annotations__", {}).items() if name[0] != "_"}
        maker = vars(subject.value).get("__init__")
        hints |= getattr(maker, "__annotations__", {}) if not attrs.has(subject.value) else {}
    else:
        hints |= {
            subject.value.__name__ if name == "return" else name: h for name, h in subject.value.__annotations__.items()
        }
    excepted = {name for end, names in NO_TIMES.items() if subject.name.endswith(f".{end}") for name in names}
    for name, hint in hints.items():
        if re.fullmatch(r"(\w+ \| )*float( \| \w+)*", str(getattr(hint, "__name__", hint))) and name not in excepted:
            yield name


def describes_its_fields(subject: Subject, world: World) -> Iterator[str]:
    """Each field of a value is mentioned, and so is each attribute that a class gives its objects."""
    if not subject.is_class:
        return
    names = world.code.assigned(vars(subject.value).get("__init__"))
    if attrs.has(subject.value):
        names |= {field.name for field in attrs.fields(subject.value) if not field.inherited}
    text = "\n".join(cls.__doc__ or "" for cls in subject.value.__mro__ if cls is not object)
    for name in sorted(name for name in names if name[0] != "_"):
        if not re.search(rf"(?<![a-z]){name.replace('_', '[_ ]')}s?(?![a-z])", text, re.IGNORECASE):
            yield f"says nothing of {name}"


def names_its_source(subject: Subject, world: World) -> Iterator[str]:
    """What comes from the protocol or a paper says from where, in words that are there."""
    wanted = world.sources.get(subject.name)
    if wanted is None and subject.value is not None and getattr(subject.value, "__module__", "").endswith("._events"):
        wanted = "ACP: "
    if wanted is not None and not re.search(wanted, subject.text or ""):
        yield f"does not name its source, {wanted}"
    for sentence in re.findall(r"ACP: ([^.]*(?:\.[^.\s][^.]*)*)", subject.text or ""):
        for word in re.findall(r"``([\w/]+)``", sentence):
            if word not in world.words:
                yield f"ACP has no {word!r}"


def points_somewhere(subject: Subject, world: World) -> Iterator[str]:
    """What a docstring refers to for more is there."""
    for name in REFERENCE.findall(subject.text or ""):
        first = name.partition(".")[0]
        if (
            first not in OTHERS
            and name not in sys.modules
            and world.find(name, subject) is None
            and not is_own_word(name, subject)
        ):
            yield f"refers to {name}, which is nothing public"


OTHERS: Final = {"trio", "math"}


def is_own_word(name: str, subject: Subject) -> bool:
    """Whether it is a parameter or an attribute of the subject or of its class."""
    near = [subject, *([] if subject.owner is None else [subject.owner])]
    return any(one.doc.entry(name) or hasattr(one.value, name) for one in near)


def documented(text: str, subject: Subject) -> Iterator[type[BaseException]]:
    """Yield the errors of a docstring."""
    for name in Doc.of(text).errors:
        if (error := meaning(name, subject)) is not None:
            yield error


def meaning(name: str, subject: Subject) -> type[BaseException] | None:
    """Return the error of this name: a public one, or one of Python, of Trio or of the module that shows it."""
    space: dict[str, Any] = {
        **vars(builtins),
        "trio": trio,
        **{key: getattr(trio_acp, key) for key in trio_acp.__all__},
    }
    space |= vars(sys.modules.get(subject.module, builtins)) | getattr(subject.value, "__globals__", {})
    found = space.get(name.partition(".")[0])
    for part in name.split(".")[1:]:
        found = getattr(found, part, None)
    return found if inspect.isclass(found) and issubclass(found, BaseException) else None


RULES: Final = (
    says_what_it_does,
    says_its_cancellation_law,
    names_its_errors,
    names_no_other_errors,
    says_seconds,
    describes_its_fields,
    names_its_source,
    points_somewhere,
)
