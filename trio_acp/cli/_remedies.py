"""What to do about an agent that cannot be reached: one line for each way it can fail."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from .._errors import AcpError, AuthenticationRequired, BackendUnavailable, StoreError

if TYPE_CHECKING:
    from ._backend import Backend

_BY_DETAIL: Final = {
    "dns": "check the host of the URL, and that this machine is online",
    "connection-refused": "nobody listens there: start the server, or correct the host and the port",
    "connect-failed": "check the host and the port, and the network in between",
    "tls": "check that the server speaks TLS there (ws:// if not); --ca-file FILE names an authority to trust",
    "connect-timeout": "check the host and the port: something on the way swallows what is sent",
    "handshake-failed": "something else than a WebSocket server answers there: check the port and the path",
    "invalid-token": "write the token, one line, into that file: chmod 600 it, and name it with --token-file",
    "cannot-start": "make it an executable file for this machine: chmod +x it, or check its #! line",
    "no-such-directory": "create the directory, or correct cwd in the configuration file",
    "agent-exited": "run the command by itself to see why: it must speak ACP on standard input and output",
    "protocol-version": "use a version of the agent that speaks version 1 of the protocol",
    "initialize-failed": "it is no ACP agent, or an outdated one: check the command, or update it",
    "session-init-failed": "update the agent; --cwd DIR tries another directory",
}
_BY_STATUS: Final = {
    400: "the server wants another form of request: check the path",
    401: "the server wants a token: name its file with --token-file FILE",
    403: "the server does not let this client in: check the token and the server's list of origins",
    404: "there is no agent at that path: trio-acp serve has it at /acp",
    426: "the server wants another version of the protocol HTTP or WebSocket",
    429: "the server has too many clients: try again later",
    503: "the server is busy or going down: try again later",
}
_BY_STEP: Final = {
    "resolve": "the name server does not answer: check the network",
    "settings": "reading the token takes too long: is it a pipe that nobody writes to?",
    "connect": "something on the way swallows what is sent: check host, port and firewall",
    "tls": "the server is silent: does it speak TLS at that port? (ws:// if not)",
    "handshake": "the server is silent: does a WebSocket server listen at that port?",
    "initialize": "it does not answer: does its command need an option to speak ACP, such as --acp?",
    "session/new": "it may wait for somebody to log in: run it once by itself, or give it more time by --timeout",
}
_OTHERWISE: Final = "--log-file FILE shows more"
# Of a store that another file could take the place of: not if it is busy, or one row of it damaged.
_UNUSABLE_STORE: Final = {"store", "store-foreign", "store-version"}


def remedy_for(error: AcpError, step: str, backend: Backend) -> str:
    """Return what to do about the error that made a step fail."""
    if isinstance(error, BackendUnavailable) and error.status is not None:
        return known_remedy(error) or "check the URL; the server's own log tells why"
    if error.detail == "no-such-program":
        if backend.spec.hint is not None:
            return f"install it: {backend.spec.hint}"
        return "install it, or name the program by its path"
    if error.detail == "step-timeout":
        return _BY_STEP.get(step, _OTHERWISE)
    return known_remedy(error) or _OTHERWISE


def in_words(error: AcpError) -> str:
    """Return what an error says; with the option that is to be changed, if its message names only the file."""
    words = str(error)
    unusable = isinstance(error, StoreError) and error.detail in _UNUSABLE_STORE
    return f"{words}; --store names another file" if unusable and not words.startswith("--") else words


def known_remedy(error: AcpError) -> str | None:
    """Return what to do about an error as such, wherever it came up; None if that is not known."""
    if isinstance(error, AuthenticationRequired):
        where = "set auth_method in the configuration file, or " if error.methods else ""
        return f"{where}log in with the agent's own command first"
    status = error.status if isinstance(error, BackendUnavailable) else None
    return _BY_DETAIL.get(error.detail) if status is None else _BY_STATUS.get(status)
