"""A TLS connection that behaves like a plain non-blocking socket, for the reactor to move.

Owns how OpenSSL's ways are told in those of a socket: who waits gets `BlockingIOError`, an end is
`b""`. One read gives one record, and as OpenSSL takes records from the kernel one by one, epoll's
word on the descriptor is all there is to know. Must not know what is said on the connection.
"""

import contextlib
import functools
import socket
import ssl
from typing import Any, Final

import structlog

from meshlb.net import openssl
from meshlb.net.sockets import ends_with_reset

log = structlog.get_logger()

RECORD_BYTES: Final = 16_384
"""The most that one record carries."""

_GONE: Final = "the peer had gone before TLS began, or was taken leave of"


@functools.cache
def openssl_of_python() -> openssl.OpenSsl | None:
    """What `ssl` cannot do; None where that cannot be reached, which is said once."""
    try:
        return openssl.find()
    except openssl.UnavailableError as error:
        log.warning(
            "TLS sessions can be resumed only where they began, and no half of a connection ended",
            reason=str(error),
        )
        return None


class TlsChannel(ssl.SSLSocket):
    """Made by a context whose `sslsocket_class` it is, over a non-blocking socket.

    It asks the connection itself: what `SSLSocket` adds on the way is for blocking sockets.

    Attributes:
        was_cut: the peer has gone without saying that it had nothing more to say. Many do; where
            the end means something, somebody may have cut it short on the way.
    """

    _sslobj: ssl.SSLObject | None
    was_cut = False
    _said_goodbye = False

    def do_handshake(self, block: bool = False) -> None:
        """Go a step ahead; `ssl.SSLWantReadError` and the like say what to wait for."""
        tls = self._sslobj
        if tls is None:
            raise ConnectionAbortedError(_GONE)
        tls.do_handshake()

    def recv(self, buflen: int = RECORD_BYTES, flags: int = 0) -> bytes:
        """The content of a record, or what is left of it; `b""` at the end.

        What is found is taken, also with `MSG_PEEK`.

        Raises:
            BlockingIOError: nothing is there, be it that only tickets or keys have come.
            OSError: the connection is lost, or what has come is not authentic.
        """
        tls = self._sslobj
        if tls is None:
            raise ConnectionAbortedError(_GONE)
        try:
            return tls.read(buflen)
        except ssl.SSLWantReadError:
            raise BlockingIOError from None
        except ssl.SSLZeroReturnError:
            return b""
        except ssl.SSLEOFError:
            self.was_cut = True
            return b""
        except (ssl.SSLWantWriteError, ValueError) as error:
            # OpenSSL answers a request for new keys with its next write, so this is no reading.
            raise ConnectionAbortedError(str(error)) from None

    def send(self, data: Any, flags: int = 0) -> int:
        """Encrypt and send as much of `data` as the kernel takes, by whole records.

        Raises:
            BlockingIOError: nothing was taken. The next call must begin with the same bytes.
            OSError: the connection is lost.
        """
        size = len(data)
        if size <= RECORD_BYTES:
            return self._send_record(data) if size else 0
        sent = 0
        with memoryview(data) as view:
            while sent < size:
                try:
                    sent += self._send_record(view[sent : sent + RECORD_BYTES])
                except BlockingIOError:
                    if not sent:
                        raise
                    break
        return sent

    def _send_record(self, data: Any) -> int:
        tls = self._sslobj
        if tls is None:
            raise ConnectionAbortedError(_GONE)
        try:
            return tls.write(data)
        except ssl.SSLWantWriteError:
            raise BlockingIOError from None
        except (ssl.SSLWantReadError, ValueError) as error:
            # The peer wants a new handshake, which it cannot have; or it was unwrapped.
            raise ConnectionAbortedError(str(error)) from None

    def shutdown(self, how: int) -> None:
        """State the end of what was sent, in TLS and in TCP."""
        self._say_goodbye()
        socket.socket.shutdown(self, how)

    def close(self) -> None:
        """Close; the peer is told that this is the end, unless it is a reset."""
        if self.fileno() >= 0 and not ends_with_reset(self):
            self._say_goodbye()
        super().close()

    def _say_goodbye(self) -> None:
        if self._said_goodbye:
            return
        self._said_goodbye = True
        known = openssl_of_python()
        if known is not None:
            known.say_goodbye(self)
        else:
            # It waits for the peer's goodbye, or fails over what else the peer says.
            with contextlib.suppress(OSError, ValueError):
                self.unwrap()


def was_broken_off(error: OSError) -> bool:
    """Whether a handshake has failed because the peer went away, and not for want of agreement."""
    return isinstance(error, ssl.SSLEOFError) or not isinstance(error, ssl.SSLError)


def handshake_fault(error: OSError) -> str:
    """Why a handshake has failed, in a few words."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the peer's certificate: {error.verify_message}"
    if was_broken_off(error) or not isinstance(error, ssl.SSLError):
        return "broken off"
    return (error.reason or "no TLS").lower().replace("_", " ")
