"""Message streams to agents: over WebSocket, over a child process's pipes, and in memory."""

from __future__ import annotations

from ._engines import Engine
from .memory import MemoryTransport, memory_transport_pair
from .stdio import LineTransport, StdioTransport, dial_stdio, stdio_server_transport
from .websocket import Cookies, WebSocketTransport, dial_websocket, websocket_over_stream, websocket_server_transport

__all__ = [
    "Cookies",
    "Engine",
    "LineTransport",
    "MemoryTransport",
    "StdioTransport",
    "WebSocketTransport",
    "dial_stdio",
    "dial_websocket",
    "memory_transport_pair",
    "stdio_server_transport",
    "websocket_over_stream",
    "websocket_server_transport",
]
