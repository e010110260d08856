"""Reads the server name out of a ClientHello, without a part in the handshake.

Owns as much of the grammar as that takes (RFC 8446 4.1.2 and 5.1, RFC 6066 3). The bytes come in
any pieces, and the message in any number of records. What is not a ClientHello raises; what is
one, with or without a name, is left for the server to judge.
"""

from typing import Final

from meshlb.core.tls.names import is_name

HELLO_BYTES_MAX: Final = 16 << 10
"""Of the message. With keys for post-quantum exchange it has two KiB or so."""

RECORDS_MAX: Final = 64
"""That the message may come in."""

_RECORD_HEADER_BYTES: Final = 5
_RECORD_BYTES_MAX: Final = 16 << 10
_HANDSHAKE: Final = 22
_MAJOR_VERSION: Final = 3
_CLIENT_HELLO: Final = 1
_MESSAGE_HEADER_BYTES: Final = 4
_VERSION_AND_RANDOM_BYTES: Final = 2 + 32
_SERVER_NAME: Final = 0
_HOST_NAME: Final = 0


class ClientHelloError(ValueError):
    """The client does not begin with a ClientHello."""


class ClientHelloReader:
    """Of one connection.

    Attributes:
        taken: all that was fed, to be passed on.
        name: once `feed` has said that it is complete; None where the client sends none.
    """

    __slots__ = ("_message", "_position", "_records", "name", "taken")

    def __init__(self) -> None:
        self.taken = bytearray()
        self.name: str | None = None
        self._message = bytearray()
        self._position = 0
        self._records = 0

    def feed(self, chunk: bytes) -> bool:
        """Take what has come; True once the message is complete.

        Raises:
            ClientHelloError: this is none.
        """
        self.taken += chunk
        while self._take_record():
            if self._records == RECORDS_MAX:
                raise ClientHelloError("in too many records")
            self._records += 1
            if self._is_complete():
                self.name = _server_name(bytes(self._message[_MESSAGE_HEADER_BYTES:]))
                return True
        return False

    def _take_record(self) -> bool:
        """Move the content of a complete record to the message."""
        begin = self._position
        header = self.taken[begin : begin + _RECORD_HEADER_BYTES]
        # What can be told from the first bytes is told at once.
        if header and header[0] != _HANDSHAKE:
            raise ClientHelloError("not a TLS handshake")
        if len(header) > 1 and header[1] != _MAJOR_VERSION:
            raise ClientHelloError("not a version of TLS")
        if len(header) < _RECORD_HEADER_BYTES:
            return False
        size = int.from_bytes(header[3:], "big")
        if not 0 < size <= _RECORD_BYTES_MAX:
            raise ClientHelloError("a record of no allowed size")
        content = begin + _RECORD_HEADER_BYTES
        if len(self.taken) < content + size:
            return False
        self._message += self.taken[content : content + size]
        self._position = content + size
        return True

    def _is_complete(self) -> bool:
        message = self._message
        if message[0] != _CLIENT_HELLO:
            raise ClientHelloError("another message than a ClientHello")
        if len(message) < _MESSAGE_HEADER_BYTES:
            return False
        size = int.from_bytes(message[1:_MESSAGE_HEADER_BYTES], "big")
        if size > HELLO_BYTES_MAX:
            raise ClientHelloError("too large")
        if len(message) > _MESSAGE_HEADER_BYTES + size:
            raise ClientHelloError("followed by something else")
        return len(message) == _MESSAGE_HEADER_BYTES + size


class _Vectors:
    """Walks over the vectors of a message: each a length, then so many bytes."""

    def __init__(self, message: bytes) -> None:
        self._message = message
        self._position = 0

    def __bool__(self) -> bool:
        """Whether something is left."""
        return self._position < len(self._message)

    def take(self, size: int) -> bytes:
        end = self._position + size
        if end > len(self._message):
            raise ClientHelloError("a length beyond the end")
        taken, self._position = self._message[self._position : end], end
        return taken

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def vector(self, length_bytes: int) -> bytes:
        return self.take(self.number(length_bytes))


def _server_name(hello: bytes) -> str | None:
    fields = _Vectors(hello)
    fields.take(_VERSION_AND_RANDOM_BYTES)
    fields.vector(1)  # session id
    fields.vector(2)  # cipher suites
    fields.vector(1)  # compression methods
    if not fields:
        return None
    extensions = _Vectors(fields.vector(2))
    if fields:
        raise ClientHelloError("bytes behind the extensions")
    name: str | None = None
    seen = False
    while extensions:
        kind, content = extensions.number(2), extensions.vector(2)
        if kind == _SERVER_NAME:
            if seen:
                raise ClientHelloError("two lists of server names")
            seen = True
            name = _host_name(content)
    return name


def _host_name(content: bytes) -> str | None:
    extension = _Vectors(content)
    names = _Vectors(extension.vector(2))
    if extension or not names:
        raise ClientHelloError("a malformed list of server names")
    found: str | None = None
    while names:
        kind, name = names.number(1), names.vector(2)
        if kind != _HOST_NAME:
            continue
        if found is not None:
            raise ClientHelloError("two server names")
        found = name.decode("latin-1").lower()
        if not is_name(found):
            raise ClientHelloError("a server name that is none")
    return found
