"""The opening handshake and frames of WebSocket (RFC 6455)."""
