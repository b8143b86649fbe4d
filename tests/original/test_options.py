"""Options, as the original's own tests have them: what the backend is told, and when again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.original.kit import KEY, manager_with, record
from trio_acp import RuntimeOptions
from trio_acp.testing import FakeRuntime

if TYPE_CHECKING:
    from trio.testing import MockClock


def told(runtime: FakeRuntime) -> list[object]:
    """Return what the backend was told, and when it was prompted, in order."""
    return [
        "prompt" if call.name == "run_turn" else call.detail
        for call in runtime.calls
        if call.name in {"set_mode", "set_config_option", "run_turn"}
    ]


async def test_stored_options_are_told_before_the_first_prompt(autojump_clock: MockClock) -> None:
    """After a restart as well: the mode, then model, permissions and timeout, in this order, then the prompt."""
    options = RuntimeOptions(mode="plan", model="m", permission_profile="strict", timeout_seconds=120)
    runtime = FakeRuntime()
    async with manager_with(runtime, record(options=options)) as (manager, _):
        await manager.session(KEY).prompt("x")
        assert ["plan", ("model", "m"), ("approval_policy", "strict"), ("timeout", "120"), "prompt"] == told(runtime)


async def test_one_changed_option_has_all_of_them_told_again(autojump_clock: MockClock) -> None:
    """Setting the model does not set the stored mode; the turn after it does."""
    runtime = FakeRuntime()
    async with manager_with(runtime, record(options=RuntimeOptions(mode="plan"))) as (manager, store):
        session = manager.session(KEY)
        await session.prompt("x")
        await session.set_config_option("model", "m")
        assert ["plan", "prompt", ("model", "m")] == told(runtime)
        await session.prompt("x")
        await session.prompt("x")
        assert ["plan", ("model", "m"), "prompt", "prompt"] == told(runtime)[3:]
        assert RuntimeOptions(mode="plan", model="m") == store.stored().options
