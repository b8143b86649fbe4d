"""A client's whole stack over WebSocket, against one agent that is faster than any of them."""
