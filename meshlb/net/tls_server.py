"""What a listener shows to its clients: certificates by name, versions, and tickets to return with.

Owns the contexts that follow from a listener's `tls`. They are made as a whole or not at all, so
that a broken file leaves those in use alone. Defaults: TLS 1.2 with forward secrecy and
authenticated encryption, and 1.3; no renegotiation, no compression, no early data. Must not know
who the clients are, nor what they say.
"""

import functools
import hashlib
import socket
import ssl
from collections.abc import Callable, Sequence
from typing import Final

import structlog

from meshlb.config import certificates
from meshlb.config.schema import CertificateSettings, TlsSettings
from meshlb.core.tls.names import ServerNames
from meshlb.core.tls.tickets import LIFETIME_S, TicketKeys
from meshlb.errors import ConfigError
from meshlb.net.tls_channel import TlsChannel, openssl_of_python
from meshlb.net.tls_trial import resumes_at

CIPHERS_1_2: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""Those of TLS 1.3 are all good, and not chosen here."""

TICKETS: Final = 1
"""Given to a client after a full handshake. One is good for one connection in TLS 1.3, and each of
these gives the next one; sealing costs as much as answering a request."""

PROTOCOLS: Final = ("http/1.1",)
"""What HTTP listeners offer by ALPN."""

_VERSIONS: Final = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}

log = structlog.get_logger()


class TicketContext(ssl.SSLContext):
    """A context that keeps alive what OpenSSL calls back."""

    kept: object = None


class ServerTls:
    """The certificates of one listener, ready to use."""

    def __init__(
        self,
        settings: TlsSettings,
        *,
        listener: str,
        speaks_http: bool,
        secrets: Sequence[bytes],
        now: Callable[[], float],
    ) -> None:
        """Read the files.

        Args:
            settings: the listener's `tls`.
            listener: its name; clients resume their sessions at listeners of that name.
            speaks_http: what to offer by ALPN.
            secrets: the cluster's; the first seals tickets, all open them.
            now: wall-clock time, in seconds.

        Raises:
            ConfigError: one of them cannot be used.
        """
        self._settings = settings
        self._speaks_http = speaks_http
        self._now = now
        try:
            purpose = _purpose(settings, listener)
            self._keys = TicketKeys(secrets, purpose=purpose) if settings.resumption else None
            self._shares_tickets = settings.resumption and _can_share_tickets(settings.pairs[0])
            self._default, self._by_name = self._read(settings.pairs)
        except (OSError, ValueError) as error:
            raise ConfigError([f"listener {listener}: tls: {error}; see `meshlb check`"]) from error

    def use_secrets(self, secrets: Sequence[bytes]) -> None:
        """Seal and open tickets with other secrets from now on; see `__init__`."""
        if self._keys is not None:
            self._keys.use(secrets)

    def wrap(self, sock: socket.socket) -> TlsChannel:
        """The server's side over `sock`, which is non-blocking and spent; shake hands next.

        Raises:
            OSError: the client has gone already.
        """
        sock.getpeername()  # Where that fails halfway, Python leaves a socket open.
        wrapped = self._default.wrap_socket(
            sock, server_side=True, do_handshake_on_connect=False, suppress_ragged_eofs=False
        )
        assert isinstance(wrapped, TlsChannel)
        return wrapped

    def _read(
        self, pairs: Sequence[CertificateSettings]
    ) -> tuple[ssl.SSLContext, ServerNames[ssl.SSLContext]]:
        by_names: dict[frozenset[str], ssl.SSLContext] = {}
        by_name: dict[str, ssl.SSLContext] = {}
        for pair in pairs:
            for warning in certificates.dates(pair.cert, certificates.utc_now()):
                log.warning("a certificate is out of its time, or soon will be", which=warning)
            names = frozenset(
                certificates.server_names(certificates.read_certificates(pair.cert)[0])
            )
            known = by_names.get(names)
            if known is not None:  # Another kind of key, for the client to choose from.
                known.load_cert_chain(pair.cert, pair.key, password=_no_passphrase)
                continue
            context = by_names[names] = self._context(pair)
            for name in names:
                by_name.setdefault(name, context)
        default = next(iter(by_names.values()))
        if len(by_names) > 1:
            default.sni_callback = self._choose  # type: ignore[assignment]  # it has no result
        return default, ServerNames(by_name)

    def _choose(self, sock: ssl.SSLSocket, name: str | None, context: ssl.SSLContext) -> None:
        """The client asks for `name`."""
        found = self._by_name.find(name) if name is not None else None
        if found is not None and found is not context:
            sock.context = found

    def _context(self, pair: CertificateSettings) -> ssl.SSLContext:
        settings = self._settings
        context = _bare_context(pair)
        context.minimum_version = _VERSIONS[settings.min_version]
        if self._speaks_http:
            context.set_alpn_protocols(list(PROTOCOLS))
        if settings.client_ca is not None:
            context.load_verify_locations(settings.client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
        context.num_tickets = TICKETS
        if self._keys is None:
            context.num_tickets = 0
            context.options |= ssl.OP_NO_TICKET
        elif self._shares_tickets:
            _share_tickets(context, self._keys, self._now)
        return context


def _bare_context(pair: CertificateSettings) -> TicketContext:
    context = TicketContext(ssl.PROTOCOL_TLS_SERVER)
    context.sslsocket_class = TlsChannel
    context.set_ciphers(CIPHERS_1_2)
    # All of them are good, and a client knows which its processor is quick at.
    context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    context.options |= ssl.OP_NO_RENEGOTIATION
    # Clients go without a goodbye, and requests say themselves where they end. OpenSSL would
    # write nothing more on such a connection, though the client may still wait for its response.
    context.options |= ssl.OP_IGNORE_UNEXPECTED_EOF
    context.load_cert_chain(pair.cert, pair.key, password=_no_passphrase)
    return context


def _share_tickets(context: TicketContext, keys: TicketKeys, now: Callable[[], float]) -> None:
    openssl = openssl_of_python()
    assert openssl is not None
    context.kept = openssl.share_tickets(context, keys, now)
    openssl.set_session_lifetime(context, LIFETIME_S)


@functools.cache
def _can_share_tickets(pair: CertificateSettings) -> bool:
    """Whether a session that one context of this process begins is resumed by another one."""
    if openssl_of_python() is None:
        return False
    contexts = []
    for _ in range(2):
        contexts.append(context := _bare_context(pair))
        _share_tickets(context, TicketKeys((b"trial",), purpose=b"trial"), lambda: 0.0)
    works = resumes_at(*contexts)
    if not works:
        log.warning("TLS sessions can be resumed only where they began: sharing was tried in vain")
    return works


def _purpose(settings: TlsSettings, listener: str) -> bytes:
    """Whose tickets: who has shown no certificate here must not come back as one who has."""
    demanded = settings.client_ca.read_bytes() if settings.client_ca is not None else b""
    return listener.encode() + b" " + hashlib.sha256(demanded).digest()


def _no_passphrase() -> str:
    raise ValueError("the key has a passphrase, and nobody to ask for it")
