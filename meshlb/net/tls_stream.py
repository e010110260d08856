"""A TLS stream over a TCP stream, whose failures reach both sides.

Owns the pumping of bytes between OpenSSL and a socket. `trio.SSLStream` does that too, but drops
the alert that tells the peer why it is refused. Must not know which certificates count, nor what
is said on the stream.
"""

import contextlib
import ssl
from typing import Final, NoReturn

import trio

READ_BYTES: Final = 64 * 1024

ALERT_S: Final = 1.0
"""How long a peer may take to read why it is refused."""


class TlsStream(trio.abc.Stream):
    """Owns `raw` from now on. Call `do_handshake` first.

    One task may send while another one receives. The end of the TCP stream is the end of this one,
    whether or not the peer has announced it: whoever needs to know has to end by words of its own.
    """

    def __init__(
        self, raw: trio.SocketStream, context: ssl.SSLContext, *, server_side: bool
    ) -> None:
        self.raw = raw
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=server_side)
        self._sending = trio.Lock()

    async def do_handshake(self) -> None:
        """Prove each other.

        Raises:
            trio.BrokenResourceError: from an `ssl.SSLError` where one side refuses the other.
        """
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                await self._flush()
                if not await self._fill():
                    raise trio.BrokenResourceError from None
            except ssl.SSLError as error:
                await self._break(error)
            else:
                await self._flush()
                return

    def names(self) -> tuple[str, ...]:
        """The DNS names of the peer's certificate, which was verified."""
        certificate = self._tls.getpeercert() or {}
        entries = certificate.get("subjectAltName", ())
        return tuple(str(entry[1]) for entry in entries if entry[0] == "DNS")

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send all of `data`."""
        self._tls.write(data)
        await self._flush()

    async def wait_send_all_might_not_block(self) -> None:
        """Return when the TCP stream takes more."""
        await self.raw.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """What has arrived; empty at the end.

        Raises:
            trio.BrokenResourceError: from an `ssl.SSLError` where the peer refuses this node, or
                what arrived is not authentic.
        """
        while True:
            try:
                return self._tls.read(max_bytes or READ_BYTES)
            except ssl.SSLWantReadError:
                # What TLS itself has to answer leaves with the next send: a reader that waited for
                # a writer would wait for a peer that waits for this reader.
                if not await self._fill():
                    return b""
            except ssl.SSLZeroReturnError:
                return b""
            except ssl.SSLError as error:
                await self._break(error)

    async def aclose(self) -> None:
        """Close the TCP stream."""
        await self.raw.aclose()

    async def _fill(self) -> bool:
        chunk = await self.raw.receive_some(READ_BYTES)
        self._incoming.write(chunk)
        return bool(chunk)

    async def _flush(self) -> None:
        async with self._sending:
            if pending := self._outgoing.read():
                await self.raw.send_all(pending)

    async def _break(self, error: ssl.SSLError) -> NoReturn:
        """Say why, where the peer still listens."""
        with trio.move_on_after(ALERT_S):
            # If it has gone, `error` still says what there was.
            with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                await self._flush()
        raise trio.BrokenResourceError from error
