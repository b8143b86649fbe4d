"""A permission policy in a file: the first rule that matches a tool call decides."""

from __future__ import annotations

import functools
import os
import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import attrs

from ._errors import InvalidOption
from ._permissions import DenyAll
from ._reads import find_places
from .abc import PermissionPolicy, Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ._reads import Places
    from .abc import Decision, PermissionRequest

Action: TypeAlias = Literal["allow", "deny", "ask"]

_ACTIONS: Final = ("allow", "deny", "ask")
_KEYS: Final = ("action", "kind", "name", "path")


@attrs.frozen(kw_only=True)
class Rule:
    """One rule: it matches what all of its conditions match, and anything if it has none.

    Attributes:
        action: What to do then.
        kind: Kinds of tool calls: ``read``, ``edit``, ``execute``, ...
        name: Patterns for the title of the tool call.
        path: Patterns for the files that it names: absolute ones, or relative to the session's directory.
    """

    action: Action
    kind: tuple[str, ...] = ()
    name: tuple[str, ...] = ()
    path: tuple[str, ...] = ()

    def matches(self, request: PermissionRequest, places: Places | None) -> bool:
        """Whether it decides this request, which names these files."""
        call = request.tool_call
        if self.kind and call.kind not in self.kind:
            return False
        if self.name and not any(_glob(pattern, ".").fullmatch(call.title) for pattern in self.name):
            return False
        return not self.path or self._matches_files(places)

    def _matches_files(self, places: Places | None) -> bool:
        # Nobody knows what a call touches that names no file: it is not allowed by its path, and not let off either.
        if places is None:
            return self.action != "allow"
        if self.action == "allow":
            return all(self._matches(places.root.real, file.real) for file in places.files)
        return any(
            self._matches(places.root.real, file.real) or self._matches(places.root.given, file.given)
            for file in places.files
        )

    def _matches(self, root: str, file: str) -> bool:
        literal = re.sub(r"([*?])", r"[\1]", root)  # nothing in the directory's own name is a pattern
        patterns = (os.path.join(literal, os.path.expanduser(pattern)) for pattern in self.path)  # noqa: PTH111, PTH118 - these are no paths
        return any(_glob(pattern, "[^/]").fullmatch(file) for pattern in patterns)


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
    was named or with links followed, or a call that names none.

    Kind, title and files are the agent's word, as for `ApproveReads`.

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
        if default not in {"deny", "ask"}:
            raise InvalidOption(f"the default must be 'deny' or 'ask', not {default!r}", detail="invalid-policy")
        self.rules = tuple(rules)
        self.default = default
        self._ask = ask

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
        places = await find_places(request)
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


@functools.lru_cache(maxsize=1024)
def _glob(pattern: str, one: str) -> re.Pattern[str]:
    """Translate a pattern, in which ``?`` and the characters of ``*`` are `one`."""
    pieces = re.split(r"(/\*\*\Z|\*\*/|\*\*|\*|\?|\[[*?]\])", pattern)
    meaning = {"/**": "(?:/.*)?", "**/": "(?:.*/)?", "**": ".*", "*": f"{one}*", "?": one, "[*]": r"\*", "[?]": r"\?"}
    return re.compile("".join(meaning.get(piece) or re.escape(piece) for piece in pieces), re.DOTALL)


def _read_rule(path: str | os.PathLike[str], number: int, table: dict[str, Any]) -> Rule:
    for key in table:
        if key not in _KEYS:
            raise _invalid(path, f"rule {number}: unknown key {key!r} (known: {', '.join(_KEYS)})")
    action = table.get("action")
    if action not in _ACTIONS:
        given = "is missing" if action is None else f"must be one of {', '.join(_ACTIONS)}, not {action!r}"
        raise _invalid(path, f"rule {number}: action {given}")
    texts: dict[str, tuple[str, ...]] = {}
    for key in _KEYS[1:]:
        value = table.get(key, [])
        values = [value] if isinstance(value, str) else value
        if not isinstance(values, list) or not all(isinstance(text, str) and text for text in values):
            raise _invalid(path, f"rule {number}: {key} must be a text or a list of texts, not {value!r}")
        if key in table and not values:
            raise _invalid(path, f"rule {number}: {key} is an empty list, which matches nothing")
        texts[key] = tuple(values)
    return Rule(action=action, **texts)


def _invalid(path: str | os.PathLike[str], what: str) -> InvalidOption:
    return InvalidOption(f"{os.fspath(path)}: {what}", detail="invalid-policy")
