"""Message streams to agents: over WebSocket, over a child process's pipes, and in memory."""

from __future__ import annotations

from .memory import MemoryTransport, memory_transport_pair
from .websocket import Cookies, WebSocketTransport, dial_websocket, websocket_over_stream, websocket_server_transport

__all__ = [
    "Cookies",
    "MemoryTransport",
    "WebSocketTransport",
    "dial_websocket",
    "memory_transport_pair",
    "websocket_over_stream",
    "websocket_server_transport",
]
