"""The public names of a package, with their docstrings taken apart."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import re
import sys
from typing import TYPE_CHECKING, Any, Final

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import ModuleType

PROTOCOL: Final = ("__aenter__", "__aexit__", "__anext__", "__call__", "__getitem__")
"""Methods that are called by syntax, and have a law all the same."""
_SECTION: Final = re.compile(r"^(Args|Attributes|Raises|Returns): *(.*)$", re.MULTILINE)
_ENTRY: Final = re.compile(r"^    (\w[\w., ]*): *(.*)$")


@attrs.frozen
class Doc:
    """A docstring of Google's form, taken apart.

    Attributes:
        text: The whole.
        prose: What is in no section.
        sections: The entries of each section, by its name; an entry may be that of several names.
    """

    text: str
    prose: str
    sections: dict[str, dict[str, str]]

    @classmethod
    def of(cls, text: str) -> Doc:
        """Take a docstring apart, its indentation gone already."""
        prose: list[str] = []
        sections: dict[str, dict[str, str]] = {}
        entries: dict[str, str] | None = None
        names: list[str] = []
        for line in text.splitlines():
            if section := _SECTION.match(line):
                entries = sections.setdefault(section[1], {})
                if section[2]:  # such as "Args: as for `turn`."
                    prose.append(section[2])
            elif entries is not None and (not line or line.startswith("    ")):
                if entry := _ENTRY.match(line):
                    names = [name.strip() for name in entry[1].split(",")]
                    entries.update(dict.fromkeys(names, entry[2]))
                else:
                    entries.update((name, f"{entries[name]} {line.strip()}") for name in names)
            else:
                entries = None
                prose.append(line)
        return cls(text, "\n".join(prose), sections)

    def entry(self, name: str) -> str:
        """Return what is said of a parameter or an attribute; empty if nothing."""
        return self.sections.get("Args", {}).get(name) or self.sections.get("Attributes", {}).get(name, "")

    @property
    def errors(self) -> dict[str, str]:
        """The entries of ``Raises:``."""
        return self.sections.get("Raises", {})


@attrs.frozen(eq=False)
class Subject:
    """One public name.

    Attributes:
        name: How it is called: ``trio_acp.Session.turn``.
        value: The class or function; of an alias or constant its value.
        owner: The class it is in, or None.
        text: Its own docstring, or else that of the method it replaces; None if there is none.
        documents: An alias or constant has its docstring below its assignment, and no code.
    """

    name: str
    value: Any
    owner: Subject | None
    text: str | None
    documents: bool = False

    @property
    def doc(self) -> Doc:
        """The docstring, taken apart."""
        return Doc.of(self.text or "")

    @property
    def is_class(self) -> bool:
        """Whether it is a class."""
        return inspect.isclass(self.value)

    @property
    def module(self) -> str:
        """The module that shows it."""
        return (self.name if self.owner is None else self.owner.name).rpartition(".")[0]

    @property
    def definer(self) -> Any:
        """The class that a method is written in."""
        mro = () if self.owner is None else self.owner.value.__mro__
        return next((cls for cls in mro if self.value.__name__ in vars(cls)), None)

    @property
    def is_async(self) -> bool:
        """Whether using it may wait: an async function or context manager, or an iterator that is one."""
        inner = inspect.unwrap(self.value) if callable(self.value) else None
        return inspect.iscoroutinefunction(inner) or inspect.isasyncgenfunction(inner)

    @property
    def is_abstract(self) -> bool:
        """Whether it is only a contract: an abstract method, one of a protocol, or a default that may be replaced."""
        if self.owner is None:
            return False
        cls = self.owner.value
        return getattr(self.value, "__isabstractmethod__", False) or getattr(cls, "_is_protocol", False)


def subjects(module: ModuleType, names: Iterable[str], source: str | None = None) -> Iterator[Subject]:
    """Yield public names of a module, and with each class what it has that is public.

    Args:
        module: The module.
        names: Those to be looked at.
        source: Its text, if it has no file.
    """
    for name in names:
        value = getattr(module, name)
        full = f"{module.__name__}.{name}"
        if inspect.ismodule(value):
            continue
        if not inspect.isclass(value) and not inspect.isroutine(value):
            yield Subject(full, value, None, text_below(module, name, source), documents=True)
            continue
        text = inspect.cleandoc(value.__doc__) if value.__doc__ else None
        yield (subject := Subject(full, value, None, text))
        if subject.is_class:
            yield from _members(subject, value.__module__.partition(".")[0])


def _members(subject: Subject, package: str) -> Iterator[Subject]:
    """Yield what a class has, its own or from a base that nobody sees."""
    seen: set[str] = set()
    for cls in subject.value.__mro__:
        if cls.__module__.partition(".")[0] != package:
            continue
        for name, member in vars(cls).items():
            if name in seen or (name.startswith("_") and name not in PROTOCOL):
                continue
            seen.add(name)
            function = member.fget if isinstance(member, property) else getattr(member, "__func__", member)
            if inspect.isfunction(function):
                docs = (getattr(vars(base).get(name), "__doc__", None) for base in subject.value.__mro__)
                text = next(filter(None, docs), None)
                yield Subject(f"{subject.name}.{name}", function, subject, text and inspect.cleandoc(text))


def text_below(module: ModuleType, name: str, source: str | None = None) -> str | None:
    """Return the string below the assignment of a name, in the module that makes it."""
    tree = ast.parse(inspect.getsource(module) if source is None else source)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and any(alias.name in {name, "*"} for alias in node.names):
            origin = importlib.util.resolve_name("." * node.level + (node.module or ""), module.__package__)
            return text_below(sys.modules[origin], name)
    for node, after in zip(tree.body, [*tree.body[1:], None], strict=True):
        match node:
            case ast.Assign(targets=[ast.Name(id=found)]) | ast.AnnAssign(target=ast.Name(id=found)) if found == name:
                match after:
                    case ast.Expr(value=ast.Constant(value=str(text))):
                        return inspect.cleandoc(text)
            case _:
                pass
    return None
