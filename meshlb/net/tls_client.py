"""TLS towards the backends of a pool: what is believed of them, and connections that are secured.

Owns the context that follows from a pool's `tls`, made as a whole or not at all, and the sessions
that spare a backend most of the next handshake. Must not know what is said on a connection.
"""

import socket
import ssl
import weakref
from typing import Final

import trio

from meshlb.config.schema import PoolTlsSettings
from meshlb.errors import ConfigError, UpstreamError
from meshlb.model import Address
from meshlb.net.sockets import connect_tcp
from meshlb.net.tls_channel import TlsChannel, handshake_fault

_VERSIONS: Final = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


class ClientTls:
    """Ready to use; sessions are remembered for each address.

    Attributes:
        probe_context: believes and shows the same; for whoever adds to it what it likes.
    """

    def __init__(self, settings: PoolTlsSettings, *, pool: str) -> None:
        """Read the files.

        Raises:
            ConfigError: one of them cannot be used.
        """
        self._settings = settings
        try:
            self._context = _context(settings)
            self.probe_context = _context(settings)
        except (OSError, ValueError) as error:
            raise ConfigError([f"pool {pool}: tls: {error}; see `meshlb check`"]) from error
        self._context.sslsocket_class = TlsChannel
        self._sessions: dict[Address, ssl.SSLSession] = {}
        self._latest: weakref.WeakValueDictionary[Address, TlsChannel] = (
            weakref.WeakValueDictionary()
        )

    def name_of(self, address: Address) -> str:
        """What the backend at `address` is asked for, and must be able to show."""
        return self._settings.server_name or address.host

    async def connect(self, address: Address, *, timeout_s: float, first: bytes) -> TlsChannel:
        """A secured connection to a backend; arguments and errors are those of `connect_tcp`."""
        until = trio.current_time() + timeout_s
        sock = await connect_tcp(address, timeout_s=timeout_s, first=first)
        try:
            channel = self._context.wrap_socket(
                sock,
                do_handshake_on_connect=False,
                suppress_ragged_eofs=False,
                server_hostname=self.name_of(address),
                session=self._session(address),
            )
        except (OSError, ValueError) as error:
            sock.close()
            raise UpstreamError(502, f"{address}: no TLS: {error}") from error
        assert isinstance(channel, TlsChannel)
        try:
            with trio.fail_at(until):
                await _shake_hands(channel)
        except trio.TooSlowError:
            channel.close()
            fault = f"{address}: no TLS handshake within {timeout_s:g} s"
            raise UpstreamError(504, fault) from None
        except OSError as error:
            channel.close()
            self._sessions.pop(address, None)
            raise UpstreamError(502, f"{address}: no TLS: {handshake_fault(error)}") from error
        except BaseException:
            channel.close()
            raise
        self._latest[address] = channel
        return channel

    def _session(self, address: Address) -> ssl.SSLSession | None:
        """What to resume: tickets come behind the handshake, so the latest connection has them."""
        latest = self._latest.get(address)
        if latest is not None and latest.fileno() >= 0:
            session = latest.session
            if session is not None and session.has_ticket:
                self._sessions[address] = session
        return self._sessions.get(address)


async def connect(
    address: Address, tls: ClientTls | None, *, timeout_s: float, first: bytes = b""
) -> socket.socket:
    """A connection to a backend, plain or secured; see `connect_tcp`."""
    if tls is None:
        return await connect_tcp(address, timeout_s=timeout_s, first=first)
    return await tls.connect(address, timeout_s=timeout_s, first=first)


def _context(settings: PoolTlsSettings) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = _VERSIONS[settings.min_version]
    context.options |= ssl.OP_NO_RENEGOTIATION
    if not settings.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif settings.ca is not None:
        context.load_verify_locations(settings.ca)
    else:
        context.load_default_certs()
    if settings.cert is not None:
        context.load_cert_chain(settings.cert, settings.key, password=_no_passphrase)
    return context


async def _shake_hands(channel: TlsChannel) -> None:
    while True:
        try:
            channel.do_handshake()
        except ssl.SSLWantReadError:
            await trio.lowlevel.wait_readable(channel)
        except ssl.SSLWantWriteError:
            await trio.lowlevel.wait_writable(channel)
        else:
            return


def _no_passphrase() -> str:
    raise ValueError("the key has a passphrase, and nobody to ask for it")
