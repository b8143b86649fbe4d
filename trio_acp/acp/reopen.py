"""Coming back to an agent's session: ``session/resume``, else ``session/load``, and what a refusal means.

An agent that does not know the session any more says so with one of many
codes: -32002, -32600 and -32602 are seen, and so is -32603, the code of any
failure at all, a passing one too.  To take that for "lost" gives up a
conversation that is still there; to take it for "failed" fails for ever where
it is not.  So after a code that says nothing definite, the agent is asked once
more: by the other way, if it has one, for it may work where the first does
not, else by the same.  Only a second refusal counts as "lost".  Whoever then
begins anew forgets the old session only if the agent opens a new one, that is,
only if it works at all.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Final

from .._errors import RequestFailed, SessionInitFailed
from .schema import (
    ErrorCode,
    LoadSessionRequest,
    LoadSessionResponse,
    ResumeSessionRequest,
    ResumeSessionResponse,
)

if TYPE_CHECKING:
    from .link import Link

_DEFINITE: Final = frozenset(
    {
        ErrorCode.RESOURCE_NOT_FOUND,
        ErrorCode.INVALID_REQUEST,
        ErrorCode.INVALID_PARAMS,
        ErrorCode.AUTHENTICATION_REQUIRED,
        ErrorCode.REQUEST_CANCELLED,
    }
)
"""Codes after which asking again makes no sense."""


async def reopen(
    link: Link, session_id: str, cwd: str, *, replay: bool = False
) -> ResumeSessionResponse | LoadSessionResponse:
    """Resume a session, or else load it; the other way round if the agent is to `replay` it.

    If cancelled, what the agent reopens meanwhile is closed.

    Raises:
        SessionInitFailed: with detail ``"resume-failed"``: the agent can do neither.
        RequestFailed: it refused, definitely or twice.
    """
    offers = link.agent.agent_capabilities
    ways = [_load] if offers.load_session else []
    if offers.session_capabilities.resume:
        ways.insert(len(ways) if replay else 0, _resume)
    if not ways:
        raise SessionInitFailed("the agent can neither resume nor load sessions", detail="resume-failed")
    if len(ways) == 1:
        ways *= 2
    while True:
        way = ways.pop(0)
        try:
            return await way(link, session_id, cwd)
        except RequestFailed as error:
            if error.rpc_code == ErrorCode.METHOD_NOT_FOUND:  # some agents advertise what they do not have
                ways = [other for other in ways if other is not way]
            if error.rpc_code in _DEFINITE or not ways:
                raise


async def _resume(link: Link, session_id: str, cwd: str) -> ResumeSessionResponse | LoadSessionResponse:
    request = ResumeSessionRequest(session_id=session_id, cwd=cwd)
    on_late = functools.partial(link.close_late, session_id=session_id)
    return await link.connection.call("session/resume", request, ResumeSessionResponse, on_late=on_late)


async def _load(link: Link, session_id: str, cwd: str) -> ResumeSessionResponse | LoadSessionResponse:
    request = LoadSessionRequest(session_id=session_id, cwd=cwd, mcp_servers=())
    on_late = functools.partial(link.close_late, session_id=session_id)
    return await link.connection.call("session/load", request, LoadSessionResponse, on_late=on_late)
