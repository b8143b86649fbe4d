"""The public names of a package with their docstrings, and which errors the code behind them can raise.

What code raises is read from its syntax tree, in two ways.  `Code.raised` is a
lower bound: what surely comes out of a function, through the calls whose callee
is certain, less what is caught on the way.  `Code.mentioned` is an upper bound:
every error that is named in anything that might be called, by its bare name.
"""

from __future__ import annotations

import ast
import builtins
import importlib.util
import inspect
import re
import sys
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import ModuleType

Function = ast.FunctionDef | ast.AsyncFunctionDef
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


class Code:
    """The syntax trees of modules.

    Args:
        sources: The text of each module, by the name under which it is in `sys.modules`, or in `modules`.
        modules: Those that are not in `sys.modules`.
        trusted: Functions that are never called wrongly here: what they raise then does not count.
    """

    def __init__(
        self,
        sources: dict[str, str],
        modules: dict[str, ModuleType] | None = None,
        trusted: frozenset[str] = frozenset(),
    ) -> None:
        self._trees = {name: ast.parse(source) for name, source in sources.items()}
        self._modules = modules or {}
        self._trusted = trusted
        self._read: dict[ast.AST, tuple[set[type[BaseException]], set[str]]] = {}

    @cached_property
    def _nodes(self) -> dict[tuple[str, str], ast.AST]:
        found: dict[tuple[str, str], ast.AST] = {}

        def collect(module: str, body: list[ast.stmt], prefix: str) -> None:
            for node in body:
                match node:
                    case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                        found[module, prefix + name] = node
                        inner = "" if isinstance(node, ast.ClassDef) else "<locals>."
                        collect(module, node.body, f"{prefix}{name}.{inner}")
                    case ast.With(body=inside) | ast.If(body=inside):
                        collect(module, inside, prefix)

        for module, tree in self._trees.items():
            collect(module, tree.body, "")
        return found

    @cached_property
    def _by_name(self) -> dict[str, list[tuple[str, ast.AST]]]:
        named: dict[str, list[tuple[str, ast.AST]]] = {}
        for (module, qualname), node in self._nodes.items():
            named.setdefault(qualname.rpartition(".")[2], []).append((module, node))
        return named

    def look_up(self, module: str, name: str) -> Any:
        """Return what a name means in a module, None if that is not known."""
        space = vars(self._modules.get(module) or sys.modules[module])
        return space.get(name, getattr(builtins, name, None))

    # -- what surely comes out ---------------------------------------------------

    def raised(self, value: Any, seen: frozenset[Any] = frozenset()) -> set[type[BaseException]]:
        """Return the errors that surely can come out of a function, or out of making an object of a class."""
        key = (value.__module__, value.__qualname__)
        node = self._nodes.get(key)
        if node is None or key in seen or key[1] in self._trusted:
            return set()
        seen |= {key}
        if isinstance(node, ast.ClassDef):
            makers = [vars(value).get(name) for name in ("__init__", "__attrs_post_init__")]
            found = {error for maker in makers if maker in self for error in self.raised(maker, seen)}
            for field in node.body:  # its validators and converters
                if isinstance(field, ast.AnnAssign) and field.value is not None:
                    for used in ast.walk(field.value):
                        if isinstance(used, ast.Name) and (check := self.look_up(key[0], used.id)) in self:
                            found |= self.raised(check, seen)
            return found
        assert isinstance(node, Function)
        owner = self.look_up(key[0], value.__qualname__.partition(".")[0]) if "." in value.__qualname__ else None
        return self._of(node.body, key[0], owner, seen)

    def __contains__(self, value: Any) -> bool:
        if not (inspect.isfunction(value) or inspect.isclass(value)):
            return False
        return (value.__module__, value.__qualname__) in self._nodes

    def _of(self, nodes: Iterable[ast.AST], module: str, owner: Any, seen: frozenset[Any]) -> set[type[BaseException]]:
        found: set[type[BaseException]] = set()
        for node in nodes:
            match node:
                case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.Lambda() | ast.ClassDef():
                    continue  # what it raises, it raises when it is called
                case ast.Try(body=body, handlers=handlers, orelse=orelse, finalbody=final):
                    caught = tuple(c for handler in handlers for c in self._caught(handler, module))
                    inside = self._of(body, module, owner, seen)
                    found |= {error for error in inside if not issubclass(error, caught)}
                    for block in (orelse, final, *(handler.body for handler in handlers)):
                        found |= self._of(block, module, owner, seen)
                    continue
                case ast.Raise(exc=exc) if exc is not None:
                    found |= self._thrown(exc, module)
                case ast.Call(func=ast.Name(id=name)) if (callee := self.look_up(module, name)) in self:
                    found |= self.raised(callee, seen)
                case ast.Call(func=ast.Attribute(value=ast.Name(id="self" | "cls"), attr=name)) if owner is not None:
                    callee = inspect.getattr_static(owner, name, None)
                    callee = getattr(callee, "__func__", callee)
                    if callee in self and not getattr(callee, "__isabstractmethod__", False):
                        found |= self.raised(callee, seen)
                case _:
                    pass
            found |= self._of(ast.iter_child_nodes(node), module, owner, seen)
        return found

    def _caught(self, handler: ast.ExceptHandler, module: str) -> Iterator[type[BaseException]]:
        if handler.type is None:
            yield BaseException
        elif isinstance(handler.type, ast.Tuple):
            yield from (c for item in handler.type.elts for c in _classes(self._meaning(item, module)))
        else:
            yield from _classes(self._meaning(handler.type, module))

    def _thrown(self, exc: ast.expr, module: str) -> set[type[BaseException]]:
        """Return the class of what is raised: of ``Error``, of ``Error(...)``, or of a function that returns one."""
        meaning = self._meaning(exc.func if isinstance(exc, ast.Call) else exc, module)
        if inspect.isfunction(meaning):
            meaning = self.look_up(meaning.__module__, str(meaning.__annotations__.get("return")))
        return set(_classes(meaning))

    def _meaning(self, node: ast.expr, module: str) -> Any:
        match node:
            case ast.Name(id=name):
                return self.look_up(module, name)
            case ast.Attribute(value=inner, attr=name):
                return getattr(self._meaning(inner, module), name, None)
        return None

    # -- what may come out -------------------------------------------------------

    def mentioned(self, value: Any) -> set[type[BaseException]]:
        """Return every error that is named in what may be called, taken by bare names."""
        start = self._nodes.get((value.__module__, value.__qualname__))
        waiting = [] if start is None else [(value.__module__, start)]
        seen = {node for _, node in waiting}
        found: set[type[BaseException]] = set()
        while waiting:
            errors, names = self._inside(*waiting.pop())
            found |= errors
            for name in names:
                for module, node in self._by_name[name]:
                    if node not in seen:
                        seen.add(node)
                        waiting.append((module, node))
        return found

    def _inside(self, module: str, node: ast.AST) -> tuple[set[type[BaseException]], set[str]]:
        """Return the errors that are named in a piece of code, and those names that something of ours has."""
        if node not in self._read:
            names = {inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name)}
            attributes = {inner.attr for inner in ast.walk(node) if isinstance(inner, ast.Attribute)}
            errors = {error for name in names for error in _classes(self.look_up(module, name))}
            self._read[node] = errors, (names | attributes) & self._by_name.keys()
        return self._read[node]


def _classes(value: Any) -> Iterator[type[BaseException]]:
    for item in value if isinstance(value, tuple) else (value,):
        if inspect.isclass(item) and issubclass(item, BaseException):
            yield item
