"""Which errors code can raise, read from its syntax tree, in two ways.

`Code.raised` is a lower bound: what surely comes out of a function, through the
calls whose callee is certain, less what is caught on the way.  `Code.mentioned`
is an upper bound: every error that is named in anything that might be called.
"""

from __future__ import annotations

import ast
import builtins
import importlib
import importlib.util
import inspect
import sys
from functools import cached_property
from typing import TYPE_CHECKING, Any

from tests.docstring_kit import Doc

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import ModuleType

Function = ast.FunctionDef | ast.AsyncFunctionDef


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
        self._reach: dict[str, set[str]] = {}
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

    def assigned(self, function: Any) -> set[str]:
        """Return the attributes of ``self`` that a function sets."""
        node = self._nodes.get((function.__module__, function.__qualname__)) if inspect.isfunction(function) else None
        inner = () if node is None else ast.walk(node)
        targets = (part for part in inner if isinstance(part, ast.Attribute) and isinstance(part.ctx, ast.Store))
        return {part.attr for part in targets if isinstance(part.value, ast.Name) and part.value.id == "self"}

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

    def mentioned(self, value: Any, owner: Any = None) -> set[type[BaseException]]:
        """Return every error that is named in what may be called: methods are taken by their bare names.

        But only those of modules that are imported, at any distance, by the
        one that calls, or by that of `owner`, the class whose method it is.
        """
        always = set() if owner is None else self._imported(owner.__module__)
        start = self._nodes.get((value.__module__, value.__qualname__))
        waiting = [] if start is None else [(value.__module__, start)]
        seen = {node for _, node in waiting}
        found: set[type[BaseException]] = set()
        while waiting:
            caller, node = waiting.pop()
            errors, names = self._inside(caller, node)
            found |= errors
            for name in names:
                for module, callee in self._by_name[name]:
                    if callee not in seen and module in self._imported(caller) | always:
                        seen.add(callee)
                        waiting.append((module, callee))
        return found

    def _inside(self, module: str, node: ast.AST) -> tuple[set[type[BaseException]], set[str]]:
        """Return the errors that are named in a piece of code, and those names that something of ours has."""
        if node not in self._read:
            inner = list(ast.walk(node))
            names = {part.id for part in inner if isinstance(part, ast.Name)}
            attributes = {part.attr for part in inner if isinstance(part, ast.Attribute)}
            errors = {error for name in names for error in _classes(self.look_up(module, name))}
            if isinstance(node, Function) and len(node.body) == 1:  # a contract: what it says is all there is
                told = Doc.of(ast.get_docstring(node) or "").errors
                places = ((place, name) for name in told for place, _ in self._by_name.get(name, ()))
                errors |= {error for place, name in places for error in _classes(self.look_up(place, name))}
            self._read[node] = errors, (names | attributes) & self._by_name.keys()
        return self._read[node]

    def _imported(self, module: str) -> set[str]:
        """Return a module, and all that it imports, that these import, and so on; also for types only."""
        if module not in self._reach:
            found, waiting = {module}, [module]
            while waiting:
                name = waiting.pop()
                package = (self._modules.get(name) or importlib.import_module(name)).__package__
                for node in ast.walk(self._trees[name]):
                    if isinstance(node, ast.ImportFrom):
                        origin = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
                        new = {origin, *(f"{origin}.{alias.name}" for alias in node.names)} & self._trees.keys() - found
                        waiting += new
                        found |= new
            self._reach[module] = found
        return self._reach[module]


def _classes(value: Any) -> Iterator[type[BaseException]]:
    for item in value if isinstance(value, tuple) else (value,):
        if inspect.isclass(item) and issubclass(item, BaseException):
            yield item
