"""The scripted agent: a real ACP v1 agent whose prompts are scripts.

It is written against the protocol alone and shares no code with the client in
this package, so that what the two agree on is what the protocol says.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from ._agent_connection import Connection, Received
from ._agent_store import AgentStore

if TYPE_CHECKING:
    from pathlib import Path

    from trio_acp.abc import Transport


@attrs.define(eq=False, kw_only=True)
class ScriptedAgent:
    """An agent that does what its prompts say; see ``trio_acp.testing.agent`` for the language.

    It holds what outlives connections: sessions and their history, whether it
    was authenticated, and what it received.  Several connections may be served
    at once.

    Attributes:
        auth: Opening a session fails until ``authenticate`` names one of ``AUTH_METHODS``.
        load: Offer ``session/load``.
        resume: Offer ``session/resume``.
        close: Offer ``session/close``.
        refuse_resume: Offer ``session/resume`` and answer it "method not found".
        protocol_version: The version to answer to ``initialize``.
        string_ids: Number its own requests with strings.
        state_dir: Where to keep sessions as JSON files, so that another process can resume them.
        initialize_delay: Seconds before ``initialize`` is answered; `math.inf` for never.
        new_session_delay: Seconds before ``session/new`` is answered; `math.inf` for never.
        id_prefix: How the ids of its sessions begin.
        replay_after_load: Replay the history after the response of ``session/load``, as one real agent does.
        early_update: Send an update before the response of ``session/new``, as three real agents do.
        accepts: The prompt capabilities to announce: ``image``, ``audio``, ``embeddedContext``.
        config: Offer configuration options: ``CONFIG``, one of which is the mode.
        log: Everything it received, in order.
        violations: What a client must not do and did, one text each: a second prompt for a session while one
            is unanswered, a request before ``initialize``, a response to an unknown id, an option that was not
            offered, a second cancel for one turn, a cancel for an idle session (which may be an honest
            crossing of the cancel and the answer: look at `log`), anything that is no JSON-RPC message.
        abandoned: What was still open when its connection ended: which connection, which session, and when (seconds).
        exit_code: The code of the last ``crash`` step, else None.

    Raises:
        ValueError: `id_prefix` has other characters than letters, digits, ``.``, ``_`` and ``-``.
    """

    auth: bool = False
    load: bool = True
    resume: bool = True
    close: bool = True
    refuse_resume: bool = False
    protocol_version: int = 1
    string_ids: bool = False
    state_dir: Path | None = None
    initialize_delay: float = 0.0
    new_session_delay: float = 0.0
    id_prefix: str = "session"
    replay_after_load: bool = False
    early_update: bool = False
    config: bool = False
    accepts: frozenset[str] = frozenset({"image", "embeddedContext"})
    log: list[Received] = attrs.field(factory=list, init=False)
    violations: list[str] = attrs.field(factory=list, init=False)
    abandoned: list[tuple[int, str, float]] = attrs.field(factory=list, init=False)
    exit_code: int | None = attrs.field(default=None, init=False)
    _store: AgentStore = attrs.field(init=False)
    _connections: int = attrs.field(default=0, init=False)

    def __attrs_post_init__(self) -> None:
        self._store = AgentStore(self.state_dir, self.id_prefix)

    async def serve(self, transport: Transport) -> None:
        """Serve one connection until it ends, from either side.

        If cancelled, it stops where it is.  The transport is left to whoever
        opened it, except where a script closes it.
        """
        self._connections += 1
        await Connection(self, self._store, transport, self._connections).run()
