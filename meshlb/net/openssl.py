"""What Python's `ssl` does not offer, asked of the OpenSSL that it uses: shared tickets, a goodbye.

Python has no way to give a server the keys of its session tickets, nor to end one direction of a
connection without reading the other. OpenSSL has both. Owns how it is reached: `ctypes` on the
very library that `_ssl` is linked with, and on pointers in its objects, whose place is checked
before one is followed (ADR 11). Where anything is not as expected `find` says so, and the caller
does without.
"""

import ctypes
import os
import ssl
import sys
from collections.abc import Callable
from ctypes import POINTER, Structure, c_char_p, c_int, c_long, c_size_t, c_uint, c_void_p
from typing import Any, Final

import structlog

from meshlb.core.tls.tickets import NAME_BYTES, TicketKey, TicketKeys

log = structlog.get_logger()

_IV_BYTES: Final = 16
_POINTER_BYTES: Final = ctypes.sizeof(c_void_p)
_SET_SESSION_CACHE_MODE: Final = 44
_NO_ANSWER, _OPENED, _OPENED_RENEW = 0, 1, 2
_SEALED: Final = 1
_UTF8, _OCTETS = 4, 5


class UnavailableError(Exception):
    """This Python or its OpenSSL is not as expected; the message says in which way."""


class _Parameter(Structure):
    """An `OSSL_PARAM`."""

    _fields_ = (
        ("key", c_char_p),
        ("data_type", c_uint),
        ("data", c_void_p),
        ("data_size", c_size_t),
        ("return_size", c_size_t),
    )


_TicketCallback = ctypes.CFUNCTYPE(c_int, c_void_p, c_void_p, c_void_p, c_void_p, c_void_p, c_int)


class OpenSsl:
    """The functions, found and tried. Make one with `find`."""

    def __init__(self, library: ctypes.PyDLL) -> None:
        """Name the functions; AttributeError where one is missing."""

        def function(name: str, result: Any, *arguments: Any) -> Any:
            found = getattr(library, name)
            found.restype, found.argtypes = result, arguments
            return found

        self._context_of = function("SSL_get_SSL_CTX", c_void_p, c_void_p)
        self._version_of = function("SSL_version", c_int, c_void_p)
        self._shut_down = function("SSL_shutdown", c_int, c_void_p)
        self._clear_errors = function("ERR_clear_error", None)
        self._control = function("SSL_CTX_ctrl", c_long, c_void_p, c_int, c_long, c_void_p)
        self._set_timeout = function("SSL_CTX_set_timeout", c_long, c_void_p, c_long)
        self._set_ticket_callback = function(
            "SSL_CTX_set_tlsext_ticket_key_evp_cb", c_long, c_void_p, _TicketCallback
        )
        init = (c_void_p, c_void_p, c_void_p, c_char_p, c_void_p)
        self._encrypt = function("EVP_EncryptInit_ex", c_int, *init)
        self._decrypt = function("EVP_DecryptInit_ex", c_int, *init)
        self._authenticate = function(
            "EVP_MAC_CTX_set_params", c_int, c_void_p, POINTER(_Parameter)
        )
        fetch = function("EVP_CIPHER_fetch", c_void_p, c_void_p, c_char_p, c_char_p)
        self._cipher = fetch(None, b"AES-256-CBC", None)
        if not self._cipher:
            raise AttributeError("AES-256-CBC")

    def share_tickets(
        self, context: ssl.SSLContext, keys: TicketKeys, now: Callable[[], float]
    ) -> object:
        """Have `context` seal and open session tickets under `keys`, and keep no sessions itself.

        Returns:
            What has to live as long as `context` and every connection made with it.
        """
        pointer = _word(context, 0)
        callback = _TicketCallback(_Tickets(self, keys, now).answer)
        self._set_ticket_callback(pointer, callback)
        self._control(pointer, _SET_SESSION_CACHE_MODE, 0, None)
        return callback

    def set_session_lifetime(self, context: ssl.SSLContext, seconds: int) -> None:
        """How long after its handshake a session of `context` may be resumed."""
        self._set_timeout(_word(context, 0), seconds)

    def say_goodbye(self, sock: ssl.SSLSocket) -> None:
        """Tell the peer that nothing more will be sent; what it sends can still be read.

        `SSLSocket.unwrap` goes on to wait for the peer's own goodbye, and breaks the connection
        if there is something else to read.
        """
        connection = _word(sock._sslobj, 1)  # type: ignore[attr-defined]  # what the pointer is in
        if self._shut_down(connection) < 0:
            self._clear_errors()


class _Tickets:
    """What OpenSSL calls back for one context."""

    def __init__(self, openssl: OpenSsl, keys: TicketKeys, now: Callable[[], float]) -> None:
        self._openssl = openssl
        self._keys = keys
        self._now = now
        self._parameters: dict[bytes, Any] = {}

    def answer(
        self, connection: int, name: int, iv: int, cipher: int, mac: int, sealing: int
    ) -> int:
        """Set the keys of one ticket; see SSL_CTX_set_tlsext_ticket_key_evp_cb(3)."""
        try:
            if sealing:
                return self._seal(name, iv, cipher, mac)
            return self._open(connection, name, iv, cipher, mac)
        except Exception:
            # Whatever it is, the client makes a full handshake.
            log.exception("a session ticket could not be handled")
            return _NO_ANSWER

    def _seal(self, name: int, iv: int, cipher: int, mac: int) -> int:
        key = self._keys.sealing(self._now())
        ctypes.memmove(name, key.name, NAME_BYTES)
        ctypes.memmove(iv, os.urandom(_IV_BYTES), _IV_BYTES)
        openssl = self._openssl
        done = openssl._encrypt(cipher, openssl._cipher, None, key.cipher, iv)
        return _SEALED if done == 1 and self._authenticated(mac, key) else _NO_ANSWER

    def _open(self, connection: int, name: int, iv: int, cipher: int, mac: int) -> int:
        now = self._now()
        key = self._keys.opening(ctypes.string_at(name, NAME_BYTES), now)
        if key is None:
            return _NO_ANSWER
        openssl = self._openssl
        done = openssl._decrypt(cipher, openssl._cipher, None, key.cipher, iv)
        if done != 1 or not self._authenticated(mac, key):
            return _NO_ANSWER
        if key.name == self._keys.sealing(now).name and (
            openssl._version_of(connection) < ssl.TLSVersion.TLSv1_3
        ):
            return _OPENED
        # In TLS 1.3 a ticket is good for one connection only, so each resumption needs a new one.
        return _OPENED_RENEW

    def _authenticated(self, mac: int, key: TicketKey) -> bool:
        """Set the key of the HMAC."""
        parameters = self._parameters.get(key.name)
        if parameters is None:
            self._parameters = {
                name: kept
                for name, kept in self._parameters.items()
                if self._keys.opening(name, self._now()) is not None
            }
            parameters = self._parameters[key.name] = (_Parameter * 3)(
                _parameter(b"key", _OCTETS, key.mac), _parameter(b"digest", _UTF8, b"SHA256")
            )
        return bool(self._openssl._authenticate(mac, parameters) == 1)


def _parameter(name: bytes, kind: int, content: bytes) -> _Parameter:
    data = ctypes.cast(c_char_p(content), c_void_p)
    parameter = _Parameter(name, kind, data, len(content), 0)
    # A structure does not keep alive what it only has the address of.
    parameter.content = content
    return parameter


def _word(holder: object, index: int) -> int:
    """A pointer in a CPython object: the one at `index` behind its head."""
    offset = object.__basicsize__ + index * _POINTER_BYTES
    return c_void_p.from_address(id(holder) + offset).value or 0


def find() -> OpenSsl:
    """Python's own OpenSSL.

    Raises:
        UnavailableError: anything about it is not as expected.
    """
    if sys.implementation.name != "cpython" or ssl.OPENSSL_VERSION_INFO < (3, 0):
        raise UnavailableError(f"no CPython with OpenSSL 3: {ssl.OPENSSL_VERSION}")
    try:
        # Symbols are searched in what the module is linked with, which is what it uses.
        library = ctypes.PyDLL(getattr(sys.modules["_ssl"], "__file__", None))
        openssl = OpenSsl(library)
    except (OSError, AttributeError) as error:
        raise UnavailableError(f"OpenSSL cannot be reached: {error}") from error
    _check_layout(openssl)
    return openssl


def _check_layout(openssl: OpenSsl) -> None:
    """Look for what is known in both objects before any pointer in them is followed."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    before = _word(context, 1)
    context.set_alpn_protocols(["layout"])
    after = _word(context, 1)
    # The pointer to the protocols stands behind the one to the context, and was null.
    if before or not after or ctypes.string_at(after, 7) != b"\x06layout":
        raise UnavailableError("an SSLContext is not laid out as expected")
    tls = context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname="layout")
    inner = tls._sslobj  # type: ignore[attr-defined]  # what the pointers are in
    if _word(inner, 2) != id(context) or (
        openssl._context_of(_word(inner, 1)) != _word(context, 0)
    ):
        raise UnavailableError("an SSLSocket is not laid out as expected")
