"""Why ``trio-acp prompt`` reached no agent, in terms of the options that say which one."""

from __future__ import annotations

import re
import ssl
from typing import TYPE_CHECKING, Final

from .._errors import AcpError, AuthenticationRequired, BackendUnavailable, InvalidOption
from .._outcomes import Completed, Failed, Stopped, TimedOut
from ..transports._url import parse_url
from ._remedies import in_words, known_remedy
from ._text import one_line

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._limits import Limits
    from .._outcomes import Outcome
    from .._session import Session

_UNAUTHORIZED: Final = 401
# OpenSSL's X509_V_ERR_...: self-signed, self-signed in the chain, no issuer for one, no issuer for the first.
_UNKNOWN_AUTHORITY: Final = {18, 19, 20, 21}
# Our own refusal of our own request: nobody but an echo sends that.
_ECHO: Final = "this client does not offer initialize"


def check_url(url: str) -> None:
    """Check the value of ``--url``.

    Raises:
        InvalidOption: it is none; the message has the value, without what may be secret in it.
    """
    try:
        parse_url(url)
    except InvalidOption as error:
        shown = re.split(r"[?#]", re.sub("//.*@", "//...@", url))[0]
        raise InvalidOption(f"--url {shown}: {error}", detail=error.detail) from None


def ending(outcome: Outcome, explain: Callable[[AcpError], str]) -> str:
    """Return how a turn ended that was not simply done; empty if it was."""
    match outcome:
        case Completed(stop_reason="end_turn"):
            return ""
        case Completed(stop_reason=reason):
            return f"the agent ended with: {reason}"
        case Stopped(by="agent"):
            return "the agent stopped the turn"
        case Stopped(agent_stop_reason=None):
            return "stopped; the agent has not answered, and may still be at work"
        case Stopped():
            return "stopped"
        case TimedOut(limits=limits):
            return f"the time was up after {limits.turn:g} s"
        case Failed(error=error):
            return explain(error)


def begins_anew(session: Session) -> str:
    """Return the words for a stored session that could not be resumed."""
    return one_line(f"the conversation begins anew: {session.lost}", limit=1000)


def why(error: AcpError, *, command: str | None, limits: Limits, timeout: float | None) -> str:
    """Return the words for an error that ended the command.

    Args:
        error: What was raised.
        command: The option that names the program, with its value, if the agent is a program.
        limits: In use.
        timeout: The value of ``--timeout``.
    """
    if error.detail == "setup-timeout":
        given = " (--timeout)" if limits.setup == timeout else ""
        return f"the agent did not answer within {limits.setup:g} s{given}"
    if isinstance(error, BackendUnavailable) and error.status == _UNAUTHORIZED:
        return f"{error}: it wants a token, and the right one (--token-file)"
    if isinstance(error.__cause__, ssl.SSLCertVerificationError) and error.__cause__.verify_code in _UNKNOWN_AUTHORITY:
        return f"{error}; --ca-file names an authority to trust"
    if isinstance(error, AuthenticationRequired):
        return f"{error}; {known_remedy(error)}"
    if not isinstance(error, BackendUnavailable):
        return in_words(error)
    if command is None:
        remedy = known_remedy(error)
        return str(error) if remedy is None else f"{error}; {remedy}"
    if error.detail in {"no-such-program", "cannot-start"}:
        named = command.startswith("--agent")
        return f'{command}: {error}; "trio-acp agents" tells more' if named else f"--stdio: {error}"
    if _ECHO in str(error):
        return f"{command}: it echoes what it gets; it is no ACP agent"
    question = "; is it an ACP agent?" if error.detail == "agent-exited" else ""
    return f"{command}: {error}{question}"
