"""A permission policy in a file: the first rule that matches a tool call decides."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import attrs

from ._errors import InvalidOption
from ._patterns import check_path_pattern, literal_start, match_parts, match_text, parts_of
from ._permissions import DenyAll
from ._reads import find_places
from .abc import PermissionPolicy, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ._reads import Places
    from .abc import Decision, PermissionRequest

Action: TypeAlias = Literal["allow", "deny", "ask"]

_ACTIONS: Final = ("allow", "deny", "ask")
_KEYS: Final = ("action", "kind", "name", "path")
# All that there are: any other that an agent sends becomes "other" on the way in.
_KINDS: Final = ("read", "edit", "delete", "move", "search", "execute", "think", "fetch", "switch_mode", "other")


def _texts(value: str | Iterable[str] | None) -> tuple[str, ...] | None:
    if value is None:
        return None
    return (value,) if isinstance(value, str) else tuple(value)


def _paths(value: str | Iterable[str] | None) -> tuple[str, ...] | None:
    texts = _texts(value)
    if texts is None or not all(isinstance(text, str) for text in texts):
        return texts
    return tuple(map(os.path.expanduser, texts))


@attrs.frozen(kw_only=True)
class Rule:
    """One rule: it matches what all of its conditions match, and anything if it has none.

    Attributes:
        action: What to do then.
        kind: Kinds of tool calls, one or several: ``read``, ``edit``, ``execute``, ...
        name: Patterns for the title of the tool call.
        path: Patterns for the files that it names: absolute ones, or relative to the session's directory.

    Raises:
        InvalidOption: a value that could match nothing, or is none; the message names the condition.
    """

    action: Action
    kind: tuple[str, ...] | None = attrs.field(default=None, converter=_texts)
    name: tuple[str, ...] | None = attrs.field(default=None, converter=_texts)
    path: tuple[str, ...] | None = attrs.field(default=None, converter=_paths)

    def __attrs_post_init__(self) -> None:
        if self.action not in _ACTIONS:
            raise _invalid("action", f"must be one of {', '.join(_ACTIONS)}, not {self.action!r}")
        for key in _KEYS[1:]:
            values = getattr(self, key)
            if values == ():
                raise _invalid(key, "is an empty list, which matches nothing")
            if not all(isinstance(value, str) and value for value in values or ()):
                raise _invalid(key, f"must be a text or a list of texts, not {list(values)!r}")
        for kind in self.kind or ():
            if kind not in _KINDS:
                raise _invalid("kind", f"there is no {kind!r} (known: {', '.join(_KINDS)})")
        for pattern in self.path or ():
            try:
                check_path_pattern(pattern)
            except InvalidOption as error:
                raise _invalid("path", str(error)) from None

    def matches(self, request: PermissionRequest, places: Places | None) -> bool:
        """Whether it decides this request, which names these files."""
        call = request.tool_call
        if self.kind is not None and call.kind not in self.kind:
            return False
        if self.name is not None and not any(match_text(pattern, call.title) for pattern in self.name):
            return False
        return self.path is None or self._matches_files(self.path, places)

    def starts(self) -> set[str]:
        """Return the paths that its patterns begin with: who denies a link denies what is there."""
        return {start for start in map(literal_start, self.path or ()) if start is not None}

    def _matches_files(self, patterns: tuple[str, ...], places: Places | None) -> bool:
        # Nobody knows what a call touches that names no file: it is not allowed by its path, and not let off either.
        if places is None:
            return self.action != "allow"
        root = places.root
        if self.action == "allow":  # where the pattern's own links lead does not count: the agent may have made them
            return all(
                any(_match_path(pattern, root.real[0], real) for pattern in patterns)
                for file in places.files
                for real in file.real
            )
        # One file is enough, by any name that it has, in the directory by any name that that has.
        names = [name for file in places.files for name in (file.given, *file.real)]
        return any(
            _match_path(pattern, directory, name, places.links)
            for pattern in patterns
            for directory in (root.given, *root.real)
            for name in names
        )


def _match_path(pattern: str, root: str, file: str, links: Mapping[str, str] | None = None) -> bool:
    """Whether a path fits a pattern that is relative to `root`, as it stands or where the links of its start lead."""
    names = parts_of(file)
    parts = parts_of(pattern)
    above = [] if pattern.startswith("/") else parts_of(root)
    # Nothing in the directory's own name is a pattern.
    if names[: len(above)] == above and match_parts(parts, names[len(above) :]):
        return True
    start = literal_start(pattern)
    if links is None or start is None:
        return False
    real = parts_of(links[start])
    return names[: len(real)] == real and match_parts(parts[len(parts_of(start)) :], names[len(real) :])


class RulePolicy(PermissionPolicy):
    """Decides by rules, of which the first that matches counts.

    In a file, with keys that are all optional but ``action``::

        default = "ask"                # if no rule matches: "ask", or "deny", which is the default

        [[rules]]
        action = "deny"
        path = ["**/.git/**", "/etc/**"]

        [[rules]]
        action = "allow"
        kind = ["read", "search"]
        path = "**"                    # anywhere in the session's directory

        [[rules]]
        action = "allow"
        kind = "execute"
        name = "pytest*"

    In the pattern of a path, ``*`` is any part of a name, ``?`` one character,
    and ``**`` any number of directories.  In that of a name, ``*`` is any text.

    An ``allow`` with paths needs *every* file that the call names to match,
    symbolic links followed.  A ``deny`` or an ``ask`` needs one to match, as it
    was named or with links followed, or a call that names none.  So an agent
    gains nothing by naming more files, fewer, or others that lead there.

    Kind, title and files are the agent's word, as for `ApproveReads`: a rule
    about them keeps a well-meaning agent in its bounds, and stops no other.
    An ``allow`` by title allows whatever calls itself so; ``pytest*`` fits
    ``pytest; rm -r ~`` too.  Hard links, and names that differ in case only
    where the file system takes them for the same, are not seen through.

    Args:
        rules: In order.
        default: What to do if none matches.
        ask: Decides where a rule says ``ask``; without it, that is denied.

    Raises:
        InvalidOption: `default` is ``allow``, or unknown.
    """

    def __init__(
        self, rules: Sequence[Rule], *, default: Literal["deny", "ask"] = "deny", ask: PermissionPolicy | None = None
    ) -> None:
        if default not in ("deny", "ask"):
            raise InvalidOption(f"the default must be 'deny' or 'ask', not {default!r}", detail="invalid-policy")
        self.rules = tuple(rules)
        self.default = default
        self._ask = ask
        self._starts = tuple(set().union(*(rule.starts() for rule in self.rules)))

    @classmethod
    def from_file(cls, path: str | os.PathLike[str], *, ask: PermissionPolicy | None = None) -> RulePolicy:
        """Read a policy from a TOML file, now; it blocks.

        Raises:
            InvalidOption: it cannot be read or understood; the message names the file, the rule and the key.
        """
        try:
            content = tomllib.loads(Path(path).expanduser().read_text("utf-8"))
        except OSError as error:
            raise _invalid(path, f"cannot be read: {error.strerror}") from error
        except (ValueError, RuntimeError) as error:
            raise _invalid(path, str(error)) from error
        for key in content:
            if key not in {"default", "rules"}:
                raise _invalid(path, f"unknown key {key!r} (known: default, rules)")
        tables = content.get("rules", [])
        if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
            raise _invalid(path, "rules must be tables: [[rules]]")
        rules = [_read_rule(path, number, table) for number, table in enumerate(tables, 1)]
        default = content.get("default", "deny")
        if default not in ("deny", "ask"):
            raise _invalid(path, f"default: must be 'deny' or 'ask', not {default!r}")
        return cls(rules, default=default, ask=ask)

    async def decide(self, request: PermissionRequest) -> Decision | Verdict:
        """Do what the first rule that matches says.  If cancelled, nothing was decided."""
        places = await find_places(request, also=self._starts)
        action: Action = self.default
        words = "no rule matches"
        for number, rule in enumerate(self.rules, 1):
            if rule.matches(request, places):
                action, words = rule.action, f"rule {number}"
                break
        if action != "ask":
            return Verdict(decision=action, rule=words)
        answer = await (self._ask or DenyAll()).decide(request)
        if not isinstance(answer, Verdict):
            answer = Verdict(decision=answer, rule="asked")
        return attrs.evolve(answer, rule=f"{words}: {answer.rule if self._ask else 'nobody can be asked'}")


def _read_rule(path: str | os.PathLike[str], number: int, table: dict[str, Any]) -> Rule:
    at = f"{os.fspath(path)}: rule {number}"
    for key, value in table.items():
        if key not in _KEYS:
            raise _invalid(at, f"unknown key {key!r} (known: {', '.join(_KEYS)})")
        if key != "action" and not isinstance(value, str | list):
            raise _invalid(at, f"{key}: must be a text or a list of texts, not {value!r}")
    if "action" not in table:
        raise _invalid(at, f"action: is missing; one of {', '.join(_ACTIONS)}")
    try:
        return Rule(**table)
    except InvalidOption as error:
        raise _invalid(at, str(error)) from None


def _invalid(where: str | os.PathLike[str], what: str) -> InvalidOption:
    return InvalidOption(f"{os.fspath(where)}: {what}", detail="invalid-policy")
