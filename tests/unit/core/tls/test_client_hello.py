"""Vectors are made by OpenSSL here and now; what it never sends is built by hand."""

import contextlib
import ssl
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshlb.core.tls.client_hello import (
    HELLO_BYTES_MAX,
    RECORDS_MAX,
    ClientHelloError,
    ClientHelloReader,
)


def hello_of(name: str | None, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> bytes:
    """What OpenSSL says first to a server of that name."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.maximum_version = version
    outgoing = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


HELLO = hello_of("www.example.com")


def name_in(*chunks: bytes) -> str | None:
    reader = ClientHelloReader()
    complete = [reader.feed(chunk) for chunk in chunks]
    assert complete == [False] * (len(chunks) - 1) + [True]
    assert reader.taken == b"".join(chunks)
    return reader.name


def record(content: bytes) -> bytes:
    return struct.pack("!BHH", 22, 0x0301, len(content)) + content


def vector(size: int, content: bytes) -> bytes:
    return len(content).to_bytes(size, "big") + content


def hello(*, extensions: bytes | None = b"", tail: bytes = b"") -> bytes:
    """The record of a small ClientHello, by hand."""
    body = b"\x03\x03" + bytes(32) + vector(1, b"") + vector(2, b"\x13\x01") + vector(1, b"\0")
    if extensions is not None:
        body += vector(2, extensions)
    return record(b"\x01" + vector(3, body + tail))


def server_names(*names: tuple[int, bytes]) -> bytes:
    content = b"".join(bytes([kind]) + vector(2, name) for kind, name in names)
    return b"\0\0" + vector(2, vector(2, content))


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_the_name_that_openssl_sends_is_read(version: ssl.TLSVersion) -> None:
    assert name_in(hello_of("a.example", version)) == "a.example"
    assert name_in(hello_of(None, version)) is None


def test_a_name_is_read_in_lower_case() -> None:
    assert name_in(hello(extensions=server_names((0, b"WWW.Example.COM")))) == "www.example.com"


def test_the_bytes_may_come_in_two_pieces_split_anywhere() -> None:
    for split in range(1, len(HELLO)):
        assert name_in(HELLO[:split], HELLO[split:]) == "www.example.com"


def test_the_bytes_may_come_one_by_one() -> None:
    assert name_in(*(HELLO[i : i + 1] for i in range(len(HELLO)))) == "www.example.com"


def test_the_message_may_be_split_over_records_anywhere() -> None:
    message = HELLO[5:]
    for split in range(1, len(message)):
        assert name_in(record(message[:split]) + record(message[split:])) == "www.example.com"


def test_a_hello_without_extensions_has_no_name() -> None:
    assert name_in(hello(extensions=None)) is None
    assert name_in(hello(extensions=b"")) is None


def test_a_name_of_another_kind_is_passed_over() -> None:
    assert name_in(hello(extensions=server_names((7, b"?"), (0, b"a.b")))) == "a.b"


def test_what_follows_the_hello_waits_to_be_passed_on() -> None:
    reader = ClientHelloReader()
    assert reader.feed(HELLO + b"early data")
    assert reader.taken == HELLO + b"early data"


@pytest.mark.parametrize(
    "said",
    [
        b"GET / HTTP/1.1\r\n",
        b"\x16\x02",
        b"\x15\x03\x01\x00\x02\x01\x00",
        b"\x16\x03\x01\x00\x00",
        b"\x16\x03\x01\x40\x01",
        record(b"\x02" + vector(3, b"server")),
        record(b"\x01" + (HELLO_BYTES_MAX + 1).to_bytes(3, "big")),
        record(b"\x01" + vector(3, b"short")),
        hello(tail=b"!"),
        hello(extensions=b"\0"),
        hello(extensions=b"\0\0\0\x09"),
        hello(extensions=b"\0\0" + vector(2, b"")),
        hello(extensions=b"\0\0" + vector(2, vector(2, b""))),
        hello(extensions=server_names((0, b"a.b"), (0, b"c.d"))),
        hello(extensions=server_names((0, b"a.b")) + server_names((0, b"a.b"))),
        hello(extensions=server_names((0, b"a b"))),
        hello(extensions=server_names((0, b""))),
        hello(extensions=server_names((0, b"a\0.b"))),
        record(HELLO[5:] + b"!"),
    ],
)
def test_what_is_no_client_hello_is_refused(said: bytes) -> None:
    with pytest.raises(ClientHelloError):
        ClientHelloReader().feed(said)


def test_a_message_in_too_many_records_is_refused() -> None:
    message = HELLO[5:]
    records = b"".join(record(bytes([byte])) for byte in message[: RECORDS_MAX + 1])
    with pytest.raises(ClientHelloError, match="too many records"):
        ClientHelloReader().feed(records)


def test_what_is_not_tls_is_known_by_its_first_byte() -> None:
    with pytest.raises(ClientHelloError):
        ClientHelloReader().feed(b"G")


@given(st.binary(max_size=300))
def test_arbitrary_bytes_are_read_or_refused_and_nothing_else(said: bytes) -> None:
    with contextlib.suppress(ClientHelloError):
        ClientHelloReader().feed(said)


@given(st.data())
def test_a_damaged_hello_is_read_or_refused_the_same_in_any_pieces(data: st.DataObject) -> None:
    damaged = bytearray(HELLO)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    split = data.draw(st.integers(0, len(damaged)))

    def outcome(*chunks: bytes) -> object:
        reader = ClientHelloReader()
        try:
            return any(reader.feed(chunk) for chunk in chunks), reader.name
        except ClientHelloError:
            return "refused"

    assert outcome(bytes(damaged)) == outcome(bytes(damaged[:split]), bytes(damaged[split:]))
