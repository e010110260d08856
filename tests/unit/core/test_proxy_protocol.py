"""The header in front of a connection: read at every split, refused where it is not exact."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshlb.core.proxy_protocol import (
    HEADER_BYTES_MAX,
    LINE_BYTES_MAX,
    SIGNATURE,
    Ends,
    ProxyHeader,
    ProxyHeaderError,
    ProxyVersion,
    crc32c,
    read_header,
    write_header,
    write_own_header,
)
from meshlb.model import Address

V4 = Ends(Address("192.0.2.1", 56324), Address("198.51.100.7", 443))
V6 = Ends(Address("2001:db8::1", 65535), Address("2001:db8::2", 0))


def binary(command: int, protocol: int, block: bytes = b"") -> bytes:
    return SIGNATURE + bytes((command, protocol)) + struct.pack("!H", len(block)) + block


def tlv(kind: int, value: bytes) -> bytes:
    return struct.pack("!BH", kind, len(value)) + value


def with_checksum(protocol: int, block: bytes) -> bytes:
    """A header with a checksum behind `block`, as HAProxy computes it."""
    blank = binary(0x21, protocol, block + tlv(3, bytes(4)))
    return blank[:-4] + crc32c(blank).to_bytes(4)


BLOCK_V4 = bytes((192, 0, 2, 1, 198, 51, 100, 7)) + struct.pack("!HH", 56324, 443)
BLOCK_V6 = bytes.fromhex(
    "20010db8000000000000000000000001 20010db8000000000000000000000002 ffff 0000"
)
MAPPED = b"PROXY TCP6 ::ffff:192.0.2.1 ::ffff:198.51.100.7 56324 443\r\n"

NAMED = {
    b"PROXY TCP4 192.0.2.1 198.51.100.7 56324 443\r\n": V4,
    b"PROXY TCP6 2001:db8::1 2001:DB8:0:0:0:0:0:2 65535 0\r\n": V6,
    MAPPED: V4,
    binary(0x21, 0x11, BLOCK_V4): V4,
    binary(0x21, 0x12, BLOCK_V4): V4,
    binary(0x21, 0x21, BLOCK_V6): V6,
    binary(0x21, 0x11, BLOCK_V4 + tlv(2, b"shop.test") + tlv(4, bytes(7))): V4,
    with_checksum(0x11, BLOCK_V4): V4,
    with_checksum(0x21, BLOCK_V6 + tlv(5, b"id")): V6,
}
NAMELESS = [
    b"PROXY UNKNOWN\r\n",
    b"PROXY UNKNOWN ffff::1 what ever\r\n",
    b"PROXY UNKNOWN".ljust(LINE_BYTES_MAX - 2) + b"\r\n",
    binary(0x20, 0x00),
    binary(0x20, 0x11, BLOCK_V4),
    binary(0x21, 0x00),
    binary(0x21, 0x00, b"anything"),
    binary(0x21, 0x31, bytes(216)),
    binary(0x21, 0x32, bytes(216) + tlv(4, b"")),
]
MALFORMED = [
    b"GET / HTTP/1.1\r\n",
    b"\x16\x03\x01",
    b"proxy TCP4 192.0.2.1 198.51.100.7 1 2\r\n",
    b"PROXY  TCP4 192.0.2.1 198.51.100.7 1 2\r\n",
    b"PROXY TCP4 192.0.2.1 198.51.100.7 1 2\n",
    b"PROXY TCP4 192.0.2.1 198.51.100.7 1 2 \r\n",
    b"PROXY TCP4 192.0.2.1 198.51.100.7 1\r\n",
    b"PROXY TCP4 192.0.2.1 198.51.100.7 01 2\r\n",
    b"PROXY TCP4 192.0.2.1 198.51.100.7 1 65536\r\n",
    b"PROXY TCP4 192.0.2.01 198.51.100.7 1 2\r\n",
    b"PROXY TCP4 192.0.2 198.51.100.7 1 2\r\n",
    b"PROXY TCP4 2001:db8::1 2001:db8::2 1 2\r\n",
    b"PROXY TCP6 192.0.2.1 198.51.100.7 1 2\r\n",
    b"PROXY TCP6 fe80::1%eth0 2001:db8::2 1 2\r\n",
    b"PROXY TCP5 192.0.2.1 198.51.100.7 1 2\r\n",
    b"PROXY UNKNOWNX\r\n",
    b"PROXY UNKNOWN\n",
    b"PROXY \r\n",
    b"PROXY UNKNOWN".ljust(LINE_BYTES_MAX - 1) + b"\r\n",
    SIGNATURE[:-1] + b"\r" + bytes(4),
    binary(0x11, 0x11, BLOCK_V4),
    binary(0x22, 0x11, BLOCK_V4),
    binary(0x21, 0x41, BLOCK_V4),
    binary(0x21, 0x13, BLOCK_V4),
    binary(0x21, 0x11, BLOCK_V4[:-1]),
    binary(0x21, 0x21, BLOCK_V4),
    binary(0x21, 0x31, bytes(215)),
    binary(0x21, 0x11, BLOCK_V4 + b"\x04\x00"),
    binary(0x21, 0x11, BLOCK_V4 + tlv(4, b"long")[:-1]),
    binary(0x21, 0x11, BLOCK_V4 + tlv(3, bytes(4))),
    binary(0x21, 0x11, BLOCK_V4 + tlv(3, b"")),
    with_checksum(0x11, BLOCK_V4).replace(b"\xc6\x33", b"\xc6\x34"),
]


@pytest.mark.parametrize(("header", "ends"), NAMED.items())
def test_a_header_names_both_ends_wherever_it_is_split(header: bytes, ends: Ends) -> None:
    assert all(read_header(header[:size]) is None for size in range(len(header)))
    for rest in (b"", b"GET /", header, b"\n"):
        assert read_header(header + rest) == ProxyHeader(len(header), ends)


@pytest.mark.parametrize("header", NAMELESS)
def test_a_header_that_names_nobody_is_taken_as_such(header: bytes) -> None:
    assert all(read_header(header[:size]) is None for size in range(len(header)))
    assert read_header(header + b"more") == ProxyHeader(len(header), None)


@pytest.mark.parametrize("header", MALFORMED)
def test_what_is_no_header_is_refused_and_never_waited_for(header: bytes) -> None:
    with pytest.raises(ProxyHeaderError):
        read_header(header)
    with pytest.raises(ProxyHeaderError):
        read_header(header + bytes(HEADER_BYTES_MAX))


def test_a_header_of_version_2_is_read_up_to_its_limit_and_refused_from_its_length_alone() -> None:
    room = HEADER_BYTES_MAX - 16 - len(BLOCK_V4) - 3
    longest = binary(0x21, 0x11, BLOCK_V4 + tlv(4, bytes(room)))
    assert read_header(longest) == ProxyHeader(HEADER_BYTES_MAX, V4)
    with pytest.raises(ProxyHeaderError):
        read_header(binary(0x21, 0x11, BLOCK_V4 + tlv(4, bytes(room + 1)))[:16])


def test_the_checksum_is_that_of_its_standard() -> None:
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(bytes(32)) == 0x8A9136AA  # RFC 3720 B.4


@pytest.mark.parametrize("version", ProxyVersion)
@pytest.mark.parametrize("ends", [V4, V6])
def test_what_is_written_is_read_again(version: ProxyVersion, ends: Ends) -> None:
    header = write_header(version, ends)
    assert read_header(header) == ProxyHeader(len(header), ends)


@pytest.mark.parametrize("version", ProxyVersion)
def test_ends_of_two_families_are_both_written_as_ipv6(version: ProxyVersion) -> None:
    header = write_header(version, Ends(V4.source, V6.destination))
    found = read_header(header)
    assert found is not None
    assert found.ends == Ends(V4.source, V6.destination)


@pytest.mark.parametrize("version", ProxyVersion)
def test_a_connection_of_our_own_names_nobody(version: ProxyVersion) -> None:
    header = write_own_header(version)
    assert read_header(header) == ProxyHeader(len(header), None)


@given(st.sampled_from([b"", b"PROXY TCP4 ", SIGNATURE, SIGNATURE + b"\x21\x11\x00"]), st.binary())
def test_arbitrary_bytes_raise_only_the_error_of_a_header(start: bytes, rest: bytes) -> None:
    try:
        found = read_header(start + rest)
    except ProxyHeaderError:
        return
    assert found is None or found.size_bytes <= len(start + rest)
