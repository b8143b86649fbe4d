"""Which option says a decision."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from trio_acp import AllowAll, DenyAll, ToolCall
from trio_acp._permissions import choose_option
from trio_acp.abc import PermissionOption, PermissionRequest

if TYPE_CHECKING:
    from trio_acp.abc import Decision

ALL = [PermissionOption(id=kind, name="Allow", kind=kind) for kind in
       ("reject_always", "allow_always", "reject_once", "allow_once", "newer_kind")]  # fmt: skip


@pytest.mark.parametrize(
    ("decision", "kinds", "expected"),
    [
        ("allow", None, "allow_once"),
        ("deny", None, "reject_once"),
        ("cancel", None, None),
        ("allow", {"allow_always", "reject_once"}, "allow_always"),
        ("deny", {"reject_always", "allow_once"}, "reject_always"),
        ("allow", {"reject_once", "newer_kind"}, None),
        ("deny", {"allow_once"}, None),
        ("deny", set(), None),
    ],
)
def test_an_option_is_chosen_by_its_kind(decision: Decision, kinds: set[str] | None, expected: str | None) -> None:
    """The mildest of the right kind, wherever it stands and whatever it is called; else none."""
    option = choose_option(decision, [option for option in ALL if kinds is None or option.kind in kinds])
    assert expected == (option.id if option else None)


async def test_the_two_simple_policies() -> None:
    """One denies everything, one allows everything."""
    request = PermissionRequest(session="k", tool_call=ToolCall(id="1", title="rm"), options=())
    assert ("deny", "allow") == (await DenyAll().decide(request), await AllowAll().decide(request))
