"""Installs the peers, or says which cannot be had here."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import pytest
import trio

from . import peers

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

Sdk = TypeVar("Sdk")


def _installed(install: Callable[[], Awaitable[Sdk]]) -> Sdk:
    try:
        return trio.run(install)
    except peers.Unavailable as missing:
        pytest.skip(str(missing))


@pytest.fixture(scope="session")
def python_sdk() -> peers.PythonSdk:
    """Return the installed Python SDK; skip if it cannot be had."""
    return _installed(peers.install_python)


@pytest.fixture(scope="session")
def typescript_sdk() -> peers.TypeScriptSdk:
    """Return the installed TypeScript SDK; skip if it cannot be had."""
    return _installed(peers.install_typescript)


@pytest.fixture(params=["python", "typescript"])
def websocket_agent(request: pytest.FixtureRequest) -> list[str]:
    """Return the command of our agent on each SDK's WebSocket server."""
    sdk: peers.PythonSdk | peers.TypeScriptSdk = request.getfixturevalue(f"{request.param}_sdk")
    return sdk.websocket_agent
