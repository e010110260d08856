"""The transport of probes to backends that expect a PROXY header first, or TLS, or both.

Owns two differences to httpx's own transport: each connection may begin with some bytes, and what
is believed of a backend is the word of its pool.
"""

import ssl
from collections.abc import Iterable
from typing import Any

import httpcore
import httpx


class ProbeTransport(httpx.AsyncHTTPTransport):
    """Like its base; every connection begins with `first`, and serves one request."""

    def __init__(self, first: bytes, context: ssl.SSLContext | None) -> None:
        super().__init__(trust_env=False, verify=False)
        # httpx has no public way to hand a network backend to the pool that it is made of.
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=context, max_keepalive_connections=0, network_backend=_Announcing(first)
        )


class _Announcing(httpcore.AsyncNetworkBackend):
    """Opens TCP connections that begin with `first`."""

    def __init__(self, first: bytes) -> None:
        self._first = first
        self._inner = httpcore.TrioBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """A connection on which `first` has been sent."""
        stream = await self._inner.connect_tcp(host, port, timeout, local_address, socket_options)
        if self._first:
            await stream.write(self._first, timeout)
        return stream

    async def sleep(self, seconds: float) -> None:
        """Wait between two tries."""
        await self._inner.sleep(seconds)
