"""Sockets: listening, connecting, TLS, and the reactor that moves bytes."""
