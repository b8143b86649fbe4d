"""The rules that the package keeps, each one a function over source text, and each shown to bite.

A rule takes a `Module` and yields its violations.  `PLANTED` has, for each
rule, sources that break it; a rule that finds nothing there is a bug.
"""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Final, TypeAlias

import attrs
import pytest

import trio_acp

ROOT: Final = Path(__file__).parents[1]
PACKAGE: Final = ROOT / "trio_acp"
MAX_LINES: Final = 350

LAYERS: Final = (
    # Lowest first.  A module belongs to the entry that is its longest prefix, and imports from its own layer or below.
    (
        "leaves",
        (
            "_appender",
            "_attachments",
            "_audit",
            "_errors",
            "_events",
            "_limits",
            "_outcomes",
            "_records",
            "_tasks",
            "_tool_calls",
            "_trace",
            "_transcript",
            "_service",
            "_serving",
            "logs",
            "_alarm",
            "_calls",
            "_owner",
            "_procfs",
            "_reaper",
        ),
    ),
    ("interfaces", ("_patterns", "_permissions", "_reads", "_rules", "_trace_file", "abc")),
    ("wire and stores", ("acp.", "stores")),
    ("transports", ("transports",)),
    ("client services", ("services",)),
    ("connection", ("acp.connection", "acp.outbox", "acp.pending", "acp.rpc", "acp.writer")),
    ("adapter", ("acp", "acp.desk", "acp.link", "acp.reopen", "acp.runtime", "acp.session")),
    (
        "policy",
        (
            "_queue",
            "_cache",
            "_identity",
            "_options",
            "_capacity",
            "_keys",
            "_ledger",
            "_ownership",
            "_backends",
            "_retry",
            "_starting",
            "_timeouts",
            "_statistics",
        ),
    ),
    (
        "turn",
        (
            "_actor",
            "_background",
            "_claims",
            "_context",
            "_controls",
            "_close",
            "_ensure",
            "_evictor",
            "_gates",
            "_operations",
            "_recording",
            "_recovery",
            "_refresh",
            "_requests",
            "_resolve",
            "_shutdown",
            "_turn",
            "_turn_state",
            "_typed_store",
        ),
    ),
    ("manager", ("_manager", "_prompt", "_reconcile", "_session")),
    ("public face", ("", "_public")),
    ("telemetry", ("otel", "prometheus")),
    ("explorer", ("explore",)),
    ("kit", ("testing",)),
    ("command line", ("cli",)),
    ("entry", ("__main__",)),
)

STRANGERS: Final = {
    # Layer: the layers below it that it must not know.
    "policy": {"adapter", "client services", "connection", "transports", "wire and stores"},
    "turn": {"adapter", "client services", "connection", "transports", "wire and stores"},
    "explorer": {name for name, _ in LAYERS} - {"explorer"},
}

LONG_FILES: Final[dict[str, str]] = {
    # Module: why it may have more lines.  Only for modules without logic.
    "abc": "every interface, for whoever implements one to find in one place",
    "acp.schema": "a class for each message, without logic",
}


@attrs.frozen(slots=False)
class Module:
    """One source file; `name` is relative to the package, empty for the package itself."""

    name: str
    source: str
    is_package: bool = False

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.source)

    def nodes(self) -> Iterator[tuple[ast.AST, int]]:
        for node in ast.walk(self.tree):
            yield node, getattr(node, "lineno", 0)

    def imports(self, *, for_types: bool = True) -> Iterator[tuple[str, int]]:
        """Yield everything imported, by full name; what only type checkers import if `for_types`."""
        here = ["trio_acp", *filter(None, self.name.split("."))]
        skipped: set[ast.AST] = set()
        for node, line in self.nodes():
            if node in skipped:
                continue
            if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING" and not for_types:
                skipped.update(node.body)
            if isinstance(node, ast.Import):
                yield from ((alias.name, line) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                base = [node.module] if node.module else []
                if node.level:
                    base = here[: len(here) - node.level + self.is_package] + base
                for alias in node.names:
                    yield ".".join([*base, alias.name]), line


Rule: TypeAlias = Callable[[Module], Iterator[str]]


def load() -> dict[str, Module]:
    """Return every module of the package by name."""
    modules = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        is_package = parts[-1] == "__init__"
        name = ".".join(parts[:-1] if is_package else parts)
        modules[name] = Module(name, path.read_text("utf-8"), is_package)
    return modules


MODULES: Final = load()


# -- layers -------------------------------------------------------------------


def layer(name: str) -> tuple[int, str]:
    """Return a module's layer: its number, lowest first, and its name."""
    found = [
        (len(prefix), number, title)
        for number, (title, prefixes) in enumerate(LAYERS)
        for prefix in prefixes
        # A longer name begins a part of the same thing: _queue_stats, acp.schema_facts, stores.sqlite.
        if (name == prefix if not prefix else name.startswith(prefix))
    ]
    if not found:
        raise LookupError(f"{name!r} is in no layer; give it one in LAYERS")
    _, number, title = max(found)
    return number, title


def targets(module: Module, *, for_types: bool = True) -> Iterator[tuple[str, int]]:
    """Yield the modules of this package that a module imports."""
    for full, line in module.imports(for_types=for_types):
        top, _, inner = full.partition(".")
        if top == "trio_acp":
            # `from .x import name`: the last part is a module only if there is one of that name.
            yield (inner if inner in MODULES else inner.rpartition(".")[0]), line


def imports_only_go_down(module: Module) -> Iterator[str]:
    """A module imports from its own layer and the ones below, also for type checking only."""
    number, title = layer(module.name)
    for target, line in targets(module):
        other, other_title = layer(target)
        if other > number:
            yield f"{line}: {title} imports {target!r} of the higher {other_title}"
        elif other_title in STRANGERS.get(title, ()):
            yield f"{line}: {title} must not know {other_title}, imports {target!r}"


def policy_is_synchronous(module: Module) -> Iterator[str]:
    """Policy modules decide without Trio, and without a clock."""
    if layer(module.name)[1] == "policy":
        for full, line in module.imports():
            if full.partition(".")[0] in {"trio", "time", "datetime"} or "async" in full:
                yield f"{line}: policy imports {full!r}"
        for node, line in module.nodes():
            if isinstance(node, ast.AsyncFunctionDef):
                yield f"{line}: policy has the async function {node.name}"


def cycles(modules: dict[str, Module]) -> Iterator[str]:
    """Modules do not import each other in a circle; within a layer, annotations may."""
    graph = {
        name: {
            target
            for target, _ in targets(module, for_types=False)
            # A package's face imports its modules; they reach past it.
            if target in modules and not name.startswith(f"{target}.") and target != name
        }
        for name, module in modules.items()
    }
    while free := {name for name, needed in graph.items() if not needed & graph.keys()}:
        graph = {name: needed for name, needed in graph.items() if name not in free}
    yield from (f"{name!r} is in or above a circle: {sorted(needed & graph.keys())}" for name, needed in graph.items())


# -- concurrency --------------------------------------------------------------


def shields_come_from_one_place(module: Module) -> Iterator[str]:
    """Only `_service` makes shields, because only there each has a finite deadline."""
    if module.name == "_service":
        return
    for node, line in module.nodes():
        if isinstance(node, ast.keyword) and node.arg == "shield":
            yield f"{line}: makes a shield; use shielded(seconds)"
        elif isinstance(node, ast.Attribute) and node.attr == "shield" and isinstance(node.ctx, ast.Store):
            yield f"{line}: sets a shield; use shielded(seconds)"


def cleanup_awaits_are_shielded(module: Module) -> Iterator[str]:
    """An await in `finally`, or after catching everything, is inside a ``with shielded(...)``."""
    if module.name == "_service":
        return
    for node, _ in module.nodes():
        if isinstance(node, ast.Try):
            catch_all = [h.body for h in node.handlers if h.type is not None and CATCH_ALL.search(ast.unparse(h.type))]
            for body in (node.finalbody, *catch_all):
                yield from (f"{line}: await in cleanup without shielded(seconds)" for line in unshielded(body))


CATCH_ALL: Final = re.compile(r"\b(BaseException|Cancelled)\b")
SAFE_IN_CLEANUP: Final = {
    # They do what they must before they wait, so that being cancelled takes nothing from it.
    "aclose",  # the law of `abc.Transport.aclose`: if cancelled, it closes by force
    "aclose_forcefully",
    "cancel_shielded_checkpoint",
    "_close_now",
    "_force",
    "_break",
    "shut_down",  # shields each of its steps
}


def unshielded(body: list[ast.stmt]) -> Iterator[int]:
    """Yield the lines that wait, outside of any shield."""
    waiting: list[ast.AST] = list(body)
    while waiting:
        node = waiting.pop()
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.Lambda():
                continue
            case ast.With(items=[ast.withitem(context_expr=ast.Call(func=func)), *_]) if (
                ast.unparse(func).rpartition(".")[2] == "shielded"
            ):
                continue
            case ast.Await(value=ast.Call(func=func)) if ast.unparse(func).rpartition(".")[2] in SAFE_IN_CLEANUP:
                continue
            case ast.Await() | ast.AsyncWith() | ast.AsyncFor():
                yield node.lineno
        waiting.extend(ast.iter_child_nodes(node))


def no_async_generators(module: Module) -> Iterator[str]:
    """An async function that yields is an `@asynccontextmanager`, never a generator."""
    for node, line in module.nodes():
        if isinstance(node, ast.AsyncFunctionDef):
            names = {ast.unparse(decorator).rpartition(".")[2] for decorator in node.decorator_list}
            if "asynccontextmanager" not in names and any(map(is_yield, own_nodes(node))):
                yield f"{line}: {node.name} is an async generator"


def own_nodes(function: ast.AsyncFunctionDef) -> Iterator[ast.AST]:
    """Yield what is in a function, but not in the functions inside it."""
    waiting: list[ast.AST] = list(function.body)
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            waiting.extend(ast.iter_child_nodes(node))


def is_yield(node: ast.AST) -> bool:
    """Whether it makes its function a generator."""
    return isinstance(node, ast.Yield)


def nothing_private_of_trio(module: Module) -> Iterator[str]:
    """Trio is used by its public names."""
    for full, line in module.imports():
        if re.match(r"trio\.(.*\.)?_", full):
            yield f"{line}: imports {full}"
    for node, line in module.nodes():
        if isinstance(node, ast.Attribute) and re.match(r"trio\.([\w.]*\.)?_(?!_)", ast.unparse(node)):
            yield f"{line}: uses {ast.unparse(node)}"


# -- form ---------------------------------------------------------------------


def no_bare_except(module: Module) -> Iterator[str]:
    """What is caught is named."""
    for node, line in module.nodes():
        if isinstance(node, ast.ExceptHandler) and node.type is None:
            yield f"{line}: bare except"


def nothing_is_silenced(module: Module) -> Iterator[str]:
    """No checker is switched off without a reason, the type checker and coverage never."""
    for line, text in enumerate(module.source.splitlines(), 1):
        if re.search(r"#\s*(type: ignore|pragma: no|TODO|FIXME)", text):
            yield f"{line}: {text.strip()}"
        elif re.search(r"#\s*noqa(?!: [A-Z]+\d+(, ?[A-Z]+\d+)* - \S)", text):
            yield f"{line}: noqa without a code and a reason"


def files_are_short(module: Module) -> Iterator[str]:
    """A file holds one idea; the exceptions hold data, and are exceptions still."""
    lines = module.source.count("\n")
    if lines > MAX_LINES and module.name not in LONG_FILES:
        yield f"has {lines} lines, more than {MAX_LINES}"
    if lines <= MAX_LINES and module.name in LONG_FILES:
        yield f"has only {lines} lines; take it out of LONG_FILES"


def modules_say_what_they_are(module: Module) -> Iterator[str]:
    """Every module has a docstring."""
    if not ast.get_docstring(module.tree):
        yield "has no docstring"


PLANTED: Final[dict[Rule, tuple[Module, ...]]] = {
    imports_only_go_down: (
        Module("_queue", "from ._manager import SessionManager"),
        Module("acp.schema", "if TYPE_CHECKING:\n    from .runtime import AcpRuntime"),
        Module("acp._hooks", "from .connection import Connection"),
        Module("acp", "from .._queue import Lane", is_package=True),
        Module("_queue", "import trio_acp.acp.runtime"),
        Module("_turn", "from .transports import stdio"),
        Module("_manager", "from trio_acp.testing import FakeRuntime"),
        Module("testing.agent", "from ..cli import main"),
        Module("_errors", "from . import open_session_manager"),
        Module("explore.step", "from .._errors import AcpError"),
    ),
    policy_is_synchronous: (
        Module("_queue", "import trio"),
        Module("_cache", "def f():\n    from trio.lowlevel import checkpoint"),
        Module("_keys", "import time"),
        Module("_keys", "async def f(): ..."),
    ),
    shields_come_from_one_place: (
        Module("_turn", "with trio.CancelScope(shield=True): ..."),
        Module("_turn", "scope.shield = True"),
        Module("_turn", "with trio.move_on_after(1, shield=wanted): ..."),
    ),
    cleanup_awaits_are_shielded: (
        Module("_turn", "async def f():\n  try: ...\n  finally:\n    await g()"),
        Module("_turn", "async def f():\n  try: ...\n  except trio.Cancelled:\n    async with g(): ..."),
        Module("_turn", "async def f():\n  try: ...\n  except (A, BaseException):\n    with h():\n      await g()"),
    ),
    no_async_generators: (
        Module("_turn", "class C:\n  async def f(self):\n    if x:\n      yield 1"),
        Module("_turn", "@contextmanager\nasync def f():\n  return (yield)"),
    ),
    nothing_private_of_trio: (
        Module("_turn", "from trio._core import run"),
        Module("_turn", "from trio import _core"),
        Module("_turn", "trio._core.run(f)"),
        Module("_turn", "trio.lowlevel._x()"),
    ),
    no_bare_except: (Module("_turn", "try: ...\nexcept: ..."),),
    nothing_is_silenced: (
        Module("_turn", "x = 1  # type: " + "ignore[misc]"),
        Module("_turn", "x = 1  # pragma: " + "no cover"),
        Module("_turn", "x = 1  # TO" + "DO: later"),
        Module("_turn", "x = 1  # no" + "qa"),
        Module("_turn", "x = 1  # no" + "qa: BLE001"),
    ),
    files_are_short: (Module("_turn", "\n" * (MAX_LINES + 1)),),
    modules_say_what_they_are: (Module("_turn", "x = 1"),),
}

INNOCENT: Final = Module(
    "_turn",
    '''"""Nothing wrong."""
import trio
from ._queue import Lane
from .abc import Runtime

@asynccontextmanager
async def f():
    try:
        yield trio.__version__
    finally:
        with shielded(2.0):
            await g()
        await trio.aclose_forcefully(stream)
        def later():
            yield
    x = 1  # noqa: S101 - a reason
''',
)


def name_of(value: object) -> str | None:
    """Name test cases after their rule or module."""
    return getattr(value, "__name__", None) or getattr(value, "name", None)


@pytest.mark.parametrize("rule", PLANTED, ids=name_of)
def test_the_package_keeps_the_rule(rule: Rule) -> None:
    """No module breaks the rule."""
    assert [] == [f"trio_acp.{module.name}:{found}" for module in MODULES.values() for found in rule(module)]


@pytest.mark.parametrize(
    ("rule", "module"), [(rule, module) for rule, modules in PLANTED.items() for module in modules], ids=name_of
)
def test_the_rule_bites(rule: Rule, module: Module) -> None:
    """The rule finds what was planted for it, and nothing in what is right."""
    assert [] != list(rule(module))
    assert [] == list(rule(INNOCENT))


def test_modules_do_not_import_in_circles() -> None:
    """There is an order in which the modules can be read."""
    assert [] == list(cycles(MODULES))


def test_a_circle_is_found() -> None:
    """Two modules that import each other are reported, unless one does so for its annotations only."""
    one, other = Module("_errors", "from ._limits import x"), Module("_limits", "from ._errors import y")
    assert ["_errors", "_limits"] == [found.split("'")[1] for found in cycles({"_errors": one, "_limits": other})]
    other = Module("_limits", "if TYPE_CHECKING:\n    from ._errors import y")
    assert [] == list(cycles({"_errors": one, "_limits": other}))


def test_every_module_has_a_layer() -> None:
    """A module that LAYERS does not place is an error, not a gap in the rules."""
    with pytest.raises(LookupError):
        layer("_unheard_of")
    assert {"leaves", "interfaces"} <= {layer(name)[1] for name in MODULES}


# -- exports ------------------------------------------------------------------


def export_order(name: str) -> tuple[int, str]:
    """Constants, then classes, then functions: the order that ruff keeps."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2), name


def export_faults(module: ModuleType) -> Iterator[str]:
    """Yield what is wrong with the public names of a module."""
    exported: list[str] = list(getattr(module, "__all__", ()))
    if not exported:
        yield "has no __all__"
    if sorted(set(exported), key=export_order) != exported:
        yield "__all__ is not sorted, or names something twice"
    public = {name for name, value in vars(module).items() if name[0] != "_" and not isinstance(value, ModuleType)}
    public -= {"annotations", "TYPE_CHECKING"}
    yield from (f"{name} is public but not in __all__" for name in sorted(public - set(exported)))
    yield from (f"{name} is in __all__ but not there" for name in exported if not hasattr(module, name))
    for name in exported:
        value = getattr(module, name, None)
        # Values and aliases are documented where they are assigned; only these two carry their own.
        if (inspect.isclass(value) or inspect.isroutine(value)) and not inspect.getdoc(value):
            yield f"{name} has no docstring"


def test_exports_are_sorted_complete_and_documented() -> None:
    """What `trio_acp` shows is exactly its `__all__`, and each class and function of it says what it does."""
    assert [] == list(export_faults(trio_acp))


def test_export_faults_are_found() -> None:
    """Each kind of fault is found."""
    module = ModuleType("planted")
    assert ["has no __all__"] == list(export_faults(module))
    vars(module).update(__all__=["gone", "Bare"], Bare=type("Bare", (), {}), extra=1)
    assert [
        "__all__ is not sorted, or names something twice",
        "extra is public but not in __all__",
        "gone is in __all__ but not there",
        "Bare has no docstring",
    ] == list(export_faults(module))


def test_what_is_loaded_is_what_is_exported() -> None:
    """`_public` has each name of `__all__`, once, and nothing else."""
    names = [name.rpartition(".")[2] for name, _ in MODULES["_public"].imports() if not name.startswith("__future__")]
    assert sorted(trio_acp.__all__) == sorted(names)


def test_importing_the_package_or_the_explorer_loads_nothing_else() -> None:
    """Whoever explores code that is not about ACP needs neither cattrs nor trio-websocket."""
    for line in ("import trio_acp.explore", "from trio_acp import explore", "import trio_acp; dir(trio_acp)"):
        # What was there before does not count: measuring coverage needs a database too.
        code = "import sys; before = set(sys.modules); "
        code += f"{line}; print(*(m for m in set(sys.modules) - before if m.split('.')[0] in {STRANGE}))"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
        assert "" == done.stdout.strip()


def test_an_unknown_name_is_an_error_of_attributes() -> None:
    """As with every module; a name that is known is there at once, and then stays."""
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        _ = vars(trio_acp)["__getattr__"]("nonsense")
    assert trio_acp.Plan is getattr(trio_acp, "Plan")  # noqa: B009 - not what a type checker has found
    assert set(trio_acp.__all__) <= set(dir(trio_acp))


STRANGE: Final = {"cattrs", "trio_websocket", "wsproto", "sqlite3"}


@pytest.mark.parametrize("name", ["_errors", "_events", "_limits", "_outcomes"])
def test_what_users_are_handed_is_exported(name: str) -> None:
    """Every public class of the modules whose objects users meet can be imported from `trio_acp`."""
    classes = {node.name for node in MODULES[name].tree.body if isinstance(node, ast.ClassDef) and node.name[0] != "_"}
    assert set() == classes - set(dir(trio_acp))


# -- the README ---------------------------------------------------------------


def readme_faults(text: str) -> Iterator[str]:
    """Yield how a README lacks the two commands that it must open with."""
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)[:2]
    if ["sh", "sh"] != [language for language, _ in blocks]:
        yield "its first two fenced blocks are not two sh blocks"
        return
    for (_, block), end in zip(blocks, (r"trio-acp demo", r"pytest\b[^\n&|;]*"), strict=True):
        if not block.startswith("python3 -m venv "):
            yield f"a block does not make its own environment: {block!r}"
        if not re.search(rf"(^|[\s/]){end}\n\Z", block):
            yield f"a block does not end in {end}: {block!r}"


def test_the_readme_opens_with_its_two_commands() -> None:
    """The first block runs the main job, the second ends in pytest; .ci/run takes the second from there."""
    assert [] == list(readme_faults((ROOT / "README.md").read_text("utf-8")))


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        ("", 1),
        ("```python\n1\n```\n```sh\nx\n```\n", 1),
        ("```sh\npython3 -m venv v\nv/trio-acp demo\n```\n```sh\npython3 -m venv v\nv/pytest && x\n```\n", 1),
        ("```sh\nv/trio-acp demo\n```\n```sh\npython3 -m venv v\nv/python -m pytest --cov\n```\n", 1),
        (
            "```sh\npython3 -m venv v\nv/trio-acp demo\n```\n```sh\npython3 -m venv v\nv/python -m pytest --cov\n```\n",
            0,
        ),
    ],
)
def test_readme_faults_are_found(text: str, faults: int) -> None:
    """A README without the two blocks, or with others, is found."""
    assert faults == len(list(readme_faults(text)))
