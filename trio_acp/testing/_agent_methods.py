"""The requests that the scripted agent answers: synchronous, each from its params to what follows it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

from ._agent_turn import METHOD_NOT_FOUND, OpenSession
from ._agent_updates import Json, commands, message_chunk
from ._script import ScriptError, Step, parse

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._agent_store import AgentStore, RememberedSession
    from ._scripted_agent import ScriptedAgent

INVALID_REQUEST = -32600
INVALID_PARAMS = -32602
INTERNAL_ERROR = -32603
AUTHENTICATION_REQUIRED = -32000
NOT_FOUND = -32002

AUTH_METHODS: Final = ("token", "browser")
"""The ids of the authentication methods that an agent with `auth` offers."""

MODES: Final = ("ask", "code")
"""The ids of the modes that every session offers."""


CONFIG: Final = {"mode": MODES, "model": ("small", "large"), "effort": ("low", "high")}
"""The configuration options of an agent with `config`, and the values each can have; the first is the default."""


class Refused(Exception):
    """A request is answered with an error."""

    def __init__(self, code: int, message: str, data: object = None) -> None:
        super().__init__(message)
        self.error: Json = {"code": code, "message": message}
        if data is not None:
            self.error["data"] = data


@attrs.frozen
class Accepted:
    """A prompt that will be worked on."""

    session: OpenSession
    text: str
    steps: tuple[Step, ...]


class Methods:
    """What one connection has opened, and the answers to its requests.

    Args:
        blame: Called with what the client must not have done.
    """

    def __init__(self, agent: ScriptedAgent, store: AgentStore, blame: Callable[[str], None]) -> None:
        self._agent = agent
        self._store = store
        self._blame = blame
        self._initialized = False
        self.sessions: dict[str, OpenSession] = {}

    def delay(self, method: str) -> float:
        """Return the seconds after which a request is to be answered."""
        delays = {"initialize": self._agent.initialize_delay, "session/new": self._agent.new_session_delay}
        return delays.get(method, 0.0)

    def answers(self, method: str, params: Json) -> list[Json]:
        """Return what follows a request, in order: its result, and updates (they have a ``method``).

        Raises:
            Refused: it is answered with an error.
        """
        agent = self._agent
        if method == "initialize":
            return [self._initialize(params)]
        self._check_initialized(method)
        match method:
            case "authenticate" if agent.auth:
                if params.get("methodId") not in AUTH_METHODS:
                    raise Refused(INVALID_PARAMS, "There is no such authentication method")
                self._store.authenticated = True
                return [{}]
            case "session/new":
                return self._new(params)
            case "session/load" if agent.load:
                return self._load(params)
            case "session/resume" if agent.resume and not agent.refuse_resume:
                return [self._opened(self._remembered(params), "resumed")]
            case "session/set_mode":
                return self._set_mode(params)
            case "session/set_config_option" if agent.config:
                return self._set_config_option(params)
            case "session/close" if agent.close:
                session = self._session(params)
                if session.turn is not None:
                    session.turn.kill()
                del self.sessions[session.id]
                return [{}]
        raise Refused(METHOD_NOT_FOUND, f'"Method not found": {method}', {"method": method})

    def prompt(self, params: Json) -> Accepted:
        """Take a ``session/prompt``.

        Raises:
            Refused: it is answered with an error, and nothing was started.
        """
        self._check_initialized("session/prompt")
        session = self._session(params)
        blocks = params.get("prompt")
        if not isinstance(blocks, list):
            raise Refused(INVALID_PARAMS, "prompt must be a list")
        if session.turn is not None:
            self._blame(f"a second prompt for {session.id} while one is unanswered")
            raise Refused(INVALID_REQUEST, "A prompt of this session is still running")
        text = "\n".join(str(block["text"]) for block in blocks if isinstance(block, dict) and "text" in block)
        try:
            return Accepted(session, text, parse(text))
        except ScriptError as error:
            raise Refused(INVALID_PARAMS, str(error)) from None

    def _check_initialized(self, method: str) -> None:
        if not self._initialized:
            self._blame(f"{method} before initialize")
            raise Refused(INVALID_REQUEST, "The connection is not initialized")

    def _initialize(self, params: Json) -> Json:
        if self._initialized:
            self._blame("a second initialize")
            raise Refused(INVALID_REQUEST, "Initialize not allowed on existing connection")
        if type(params.get("protocolVersion")) is not int:
            raise Refused(INVALID_PARAMS, "protocolVersion must be an integer")
        self._initialized = True
        agent = self._agent
        offered: Json = {"resume": {}} if agent.resume or agent.refuse_resume else {}
        if agent.close:
            offered["close"] = {}
        capabilities = {
            "loadSession": agent.load,
            "promptCapabilities": dict.fromkeys(sorted(agent.accepts), True),
            "sessionCapabilities": offered,
        }
        return {
            "protocolVersion": agent.protocol_version,
            "agentCapabilities": capabilities,
            "authMethods": _auth_methods() if agent.auth else [],
            "agentInfo": {"name": "trio-acp-scripted-agent", "version": "1"},
        }

    def _opened(self, memory: RememberedSession, origin: str) -> Json:
        session = self.sessions[memory.id] = OpenSession(memory, origin)
        modes = [{"id": mode, "name": mode.capitalize()} for mode in MODES]
        opened: Json = {"modes": {"currentModeId": MODES[0], "availableModes": modes}}
        if self._agent.config:
            session.config = {key: values[0] for key, values in CONFIG.items()}
            opened["configOptions"] = config_options(session)
        return opened

    def _new(self, params: Json) -> list[Json]:
        cwd = self._checked_cwd(params)
        memory = self._store.new(cwd)
        result = {"sessionId": memory.id, **self._opened(memory, "new")}
        return [_update(memory.id, commands()), result] if self._agent.early_update else [result]

    def _load(self, params: Json) -> list[Json]:
        memory = self._remembered(params)
        replay = []
        for turn in memory.turns:
            replay.append(_update(memory.id, message_chunk(turn.prompt, "user_message_chunk")))
            replay.append(_update(memory.id, message_chunk(turn.reply)))
        result = self._opened(memory, "loaded")
        return [result, *replay] if self._agent.replay_after_load else [*replay, result]

    def _checked_cwd(self, params: Json) -> str:
        if self._agent.auth and not self._store.authenticated:
            raise Refused(AUTHENTICATION_REQUIRED, "Authentication required", {"authMethods": _auth_methods()})
        cwd = params.get("cwd")
        if not isinstance(cwd, str) or not cwd.startswith("/"):
            raise Refused(INVALID_PARAMS, "cwd must be an absolute path")
        if not isinstance(params.get("mcpServers"), list):
            raise Refused(INVALID_PARAMS, "mcpServers must be a list")
        return cwd

    def _remembered(self, params: Json) -> RememberedSession:
        cwd = self._checked_cwd({"mcpServers": [], **params})
        try:
            memory = self._store.find(str(params.get("sessionId")))
        except (ValueError, KeyError, TypeError) as error:
            raise Refused(INTERNAL_ERROR, f"The session's file is damaged: {error}") from None
        if memory is None:
            raise Refused(NOT_FOUND, "There is no such session", {"sessionId": params.get("sessionId")})
        memory.cwd = cwd
        return memory

    def _session(self, params: Json) -> OpenSession:
        session = self.sessions.get(str(params.get("sessionId")))
        if session is None:
            raise Refused(NOT_FOUND, "There is no such session", {"sessionId": params.get("sessionId")})
        return session

    def _set_mode(self, params: Json) -> list[Json]:
        session = self._session(params)
        if params.get("modeId") not in MODES:
            raise Refused(INVALID_PARAMS, "There is no such mode")
        session.mode = str(params["modeId"])
        return [_update(session.id, {"sessionUpdate": "current_mode_update", "currentModeId": session.mode}), {}]

    def _set_config_option(self, params: Json) -> list[Json]:
        session = self._session(params)
        key, value = params.get("configId"), params.get("value")
        if key not in session.config or value not in CONFIG[key]:
            raise Refused(INVALID_PARAMS, "There is no such configuration option, or no such value")
        session.config[key] = value
        session.mode = session.config["mode"]
        return [{"configOptions": config_options(session)}]


def config_options(session: OpenSession) -> list[Json]:
    """Return the configuration options of a session, as they are now."""
    return [
        {
            "id": key,
            "name": key.capitalize(),
            "category": {"effort": "thought_level"}.get(key, key),
            "type": "select",
            "currentValue": value,
            "options": [{"value": choice, "name": choice.capitalize()} for choice in CONFIG[key]],
        }
        for key, value in session.config.items()
    ]


def _auth_methods() -> list[Json]:
    return [{"id": method, "name": method.capitalize()} for method in AUTH_METHODS]


def _update(session_id: str, update: Json) -> Json:
    return {"jsonrpc": "2.0", "method": "session/update", "params": {"sessionId": session_id, "update": update}}
