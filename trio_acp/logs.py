"""For whoever reads the log: which session a record is about, frames without secrets, records as JSON.

This package logs with the standard library, under ``trio_acp``, and sets up
nothing.  A handler of yours learns the session and the turn from a filter::

    handler = logging.StreamHandler()
    handler.addFilter(SessionFilter())
    handler.setFormatter(logging.Formatter("%(levelname)s %(session)s %(turn)s %(message)s"))
    logging.getLogger("trio_acp").addHandler(handler)

The filter belongs to the handler that is called where the record was made: to
a `logging.handlers.QueueHandler`, not to the one behind its queue.

Messages to and from agents are logged by the logger ``trio_acp.wire``, at the
level `TRACE`, with the direction and a number for the connection, cut after
`MAX_FRAME` characters, and with secrets left out as `redact` says.  Whether
they are is decided when a connection is made: turn it on before that.  When
it is off, it costs nothing.  Beware: prompts and answers are in them.
"""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit, urlunsplit

from ._serving import served

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["MAX_FRAME", "REDACTED", "TRACE", "JsonFormatter", "SessionFilter", "redact"]

TRACE: Final = 5
"""The level of frames, below `logging.DEBUG`; its name is ``TRACE``."""

MAX_FRAME: Final = 2000
"""Characters of a frame that are logged."""

REDACTED: Final = "[redacted]"
"""What stands in place of a secret."""

logging.addLevelName(TRACE, "TRACE")


class SessionFilter(logging.Filter):
    """Gives each record the attributes `session`, its key, and `turn`, the turn's id (`Turn.request_id`).

    They tell whom the task that logs is working for: also in the code of
    runtimes and permission policies, whichever logger it uses.  Both are empty
    where this package works for no session, and `turn` where no turn runs.
    Nothing is filtered out.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Complete the record; always True."""
        session, turn = served()
        vars(record).setdefault("session", session)
        vars(record).setdefault("turn", turn)
        return True


class JsonFormatter(logging.Formatter):
    """Formats each record as one line of JSON, in ASCII.

    Its keys: ``time`` (seconds since the epoch), ``level``, ``logger``,
    ``message``, and, as far as there are any, ``session`` and ``turn`` (from
    `SessionFilter`), ``connection`` and ``direction`` (of frames), ``exception``
    and ``stack``.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without its end."""
        line: dict[str, Any] = {
            "time": record.created,
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        for name in ("session", "turn", "connection", "direction"):
            if value := getattr(record, name, None):
                line[name] = value
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            line["stack"] = record.stack_info
        return json.dumps(line, default=str)


def redact(message: object) -> object:
    """Return a decoded message of ACP without what is secret by its position; the message stays as it is.

    These become `REDACTED`, and nothing else changes:

    - ``params.mcpServers[*].env[*].value`` and ``params.mcpServers[*].headers[*].value``;
    - user, password and query of ``params.mcpServers[*].url``;
    - ``params.env[*].value`` and ``params.headers[*].value``: commands in terminals, providers of models;
    - all params of ``authenticate`` but ``methodId``;
    - ``result.authMethods[*].env[*].value``.

    Servers, variables and headers may also be objects, by name.  What is of
    another form at these places is left out as a whole.
    """
    if isinstance(message, list):  # a batch, which ACP does not have, but an agent may send one
        return [_redacted(each) if isinstance(each, dict) else each for each in message]
    return _redacted(message) if isinstance(message, dict) else message


def _redacted(message: dict[str, Any]) -> dict[str, Any]:
    safe = dict(message)
    params, result = safe.get("params"), safe.get("result")
    if safe.get("method") == "authenticate":
        safe["params"] = _kept(params, "methodId")
    elif isinstance(params, dict):
        safe["params"] = _without_values(params)
        if "mcpServers" in params:
            safe["params"]["mcpServers"] = _each(params["mcpServers"], _server)
    if isinstance(result, dict) and "authMethods" in result:
        safe["result"] = {**result, "authMethods": _each(result["authMethods"], _without_values)}
    return safe


def _kept(params: object, name: str) -> object:
    """Return an object with one of its values, if that is text."""
    if not isinstance(params, dict):
        return REDACTED
    return {key: value if key == name and isinstance(value, str) else REDACTED for key, value in params.items()}


def _each(items: object, change: Callable[[dict[str, Any]], dict[str, Any]]) -> object:
    """Return a list or an object with each of its objects changed, and without what is no object."""
    if isinstance(items, list):
        return [change(item) if isinstance(item, dict) else REDACTED for item in items]
    if isinstance(items, dict):
        return {name: change(item) if isinstance(item, dict) else REDACTED for name, item in items.items()}
    return REDACTED


def _without_value(variable: dict[str, Any]) -> dict[str, Any]:
    return {**variable, "value": REDACTED} if "value" in variable else variable


def _without_values(holder: dict[str, Any]) -> dict[str, Any]:
    return {
        name: _each(value, _without_value) if name in {"env", "headers"} else value for name, value in holder.items()
    }


def _server(server: dict[str, Any]) -> dict[str, Any]:
    safe = _without_values(server)
    return {**safe, "url": _without_credentials(server["url"])} if "url" in server else safe


def _without_credentials(url: object) -> str:
    try:
        parts = urlsplit(url if isinstance(url, str) else "")
    except ValueError:
        return REDACTED
    if not parts.netloc:
        return REDACTED
    user, at, host = parts.netloc.rpartition("@")
    if not user and not parts.query:
        return str(url)
    query = REDACTED if parts.query else ""
    return urlunsplit(parts._replace(netloc=f"{REDACTED if user else ''}{at}{host}", query=query))
