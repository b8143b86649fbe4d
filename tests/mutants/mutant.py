"""A mutant: one function of the package with one fault, and the test that notices it."""

from __future__ import annotations

import ast
import builtins
import dis
import importlib
import inspect
from contextlib import contextmanager
from types import CodeType, FunctionType
from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType


@attrs.frozen
class Mutant:
    """A fault that a function could have, as a change of its text.

    Attributes:
        name: Its own, in words.
        stands_for: The weakness (E-), hazard (H-), behaviour (B-), addition (D-),
            test (T-) or guarantee (G) of the catalogue that it brings back or breaks;
            ``explorer`` for what looks for faults itself, which no catalogue has.
        where: The function, as ``module:qualified.name`` within the package.
        old: What is replaced; it stands in the function exactly once.  Keep it
            short: it has to survive changes nearby.
        new: What replaces it.
        killer: The test that fails because of it, as ``file.py::test``, with its
            parameters if it has some.  Best in virtual time, and one that cannot hang.
    """

    name: str
    stands_for: str
    where: str
    old: str
    new: str
    killer: str

    @property
    def module(self) -> ModuleType:
        """The module that has the function."""
        return importlib.import_module(f"trio_acp.{self.where.partition(':')[0]}")

    def function(self) -> FunctionType:
        """Return the function, whatever wraps it."""
        found: Any = self.module
        for name in self.where.partition(":")[2].split("."):
            found = inspect.getattr_static(found, name)
        found = inspect.unwrap(getattr(found, "fget", None) or getattr(found, "__func__", found))
        assert isinstance(found, FunctionType), f"{self.where} is not a function"
        return found

    def source(self) -> tuple[str, str, str]:
        """Return the text of the module before the function, the function's, and what follows."""
        text = inspect.getsource(self.module)
        body: list[ast.stmt] = ast.parse(text).body
        node: ast.stmt | None = None
        for name in self.where.partition(":")[2].split("."):
            node = next(n for n in body if getattr(n, "name", None) == name)
            body = getattr(node, "body", [])
        assert node is not None
        lines = text.splitlines(keepends=True)
        first, last = node.lineno - 1, node.end_lineno
        return "".join(lines[:first]), "".join(lines[first:last]), "".join(lines[last:])

    def code(self) -> CodeType:
        """Compile the changed function.

        Raises:
            ValueError: the old text does not stand there exactly once, or the
                change makes no sense where it stands.
        """
        before, function, after = self.source()
        if function.count(self.old) != 1:
            raise ValueError(f"{self.name}: {self.old!r} stands {function.count(self.old)} times in {self.where}")
        # The name is no file's, so that whoever measures coverage does not take its lines for the module's.
        changed = compile(before + function.replace(self.old, self.new) + after, f"<mutant {self.name}>", "exec")
        code = next(c for c in _codes(changed) if c.co_qualname == self.function().__qualname__)
        if code.co_freevars != self.function().__code__.co_freevars:
            raise ValueError(f"{self.name}: the function closes over other names than before")
        known = {*vars(self.module), *vars(builtins)}
        if unknown := {name for c in _codes(code) for name in _globals(c)} - known:
            raise ValueError(f"{self.name}: the change uses {unknown}, which the module does not have")
        return code

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Have the package run with the fault, in this process; whoever imported the function has it too."""
        function, changed = self.function(), self.code()
        original = function.__code__
        function.__code__ = changed
        try:
            yield
        finally:
            function.__code__ = original


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def _globals(code: CodeType) -> Iterator[str]:
    return (i.argval for i in dis.get_instructions(code) if i.opname in {"LOAD_GLOBAL", "LOAD_NAME"})
