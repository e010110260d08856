"""The PROXY protocol, versions 1 and 2: whom a connection really comes from, told in front of it.

Owns the bytes of the header, read and written. It must not know sockets, nor who may be believed:
whoever can connect to a listener that expects a header can say anything in it.

Spec: "The PROXY protocol, versions 1 & 2" (HAProxy, doc/proxy-protocol.txt, 2020/03/05).
"""

import enum
import ipaddress
import re
import struct
from dataclasses import dataclass

from meshlb.model import Address

HEADER_BYTES_MAX = 4 << 10
"""The longest header read; version 2 could state 65,551, and nobody has a use for that."""

LINE_BYTES_MAX = 107
"""The longest header of version 1, with its CRLF."""

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
_FIXED = struct.Struct("!12sBBH")
_PREFIX = b"PROXY "

_LOCAL, _PROXY = 0x20, 0x21
_UNSPECIFIED, _STREAM, _DATAGRAM = range(3)
_NO_FAMILY, _INET, _INET6, _UNIX = range(4)
_PORTS = struct.Struct("!HH")
_IP_BYTES = {_INET: 4, _INET6: 16}
_UNIX_BYTES = 216

_CRC32C_TLV = 0x03
_TLV = struct.Struct("!BH")

_line = re.compile(
    rb"PROXY TCP([46]) ([0-9A-Fa-f:.]{2,45}) ([0-9A-Fa-f:.]{2,45})"
    rb" (0|[1-9][0-9]{0,4}) (0|[1-9][0-9]{0,4})\r\n"
).fullmatch

_PORT_MAX = 65_535


class ProxyVersion(enum.StrEnum):
    """Which form of the header to write."""

    V1 = "v1"
    V2 = "v2"


class ProxyHeaderError(ValueError):
    """What came is no PROXY header; the connection is of no use."""


@dataclass(frozen=True, slots=True)
class Ends:
    """The two ends of the connection that a client opened."""

    source: Address
    destination: Address


@dataclass(frozen=True, slots=True)
class ProxyHeader:
    """A header that was read.

    Attributes:
        size_bytes: how much of the stream it took.
        ends: whom it names; None where it names nobody, so that the connection speaks for itself
            (`UNKNOWN`, `LOCAL`, a Unix socket).
    """

    size_bytes: int
    ends: Ends | None


def read_header(begun: bytes) -> ProxyHeader | None:
    """The header that a connection begins with; None while `begun` is not all of it.

    Raises:
        ProxyHeaderError: it is none, or one that is malformed or over `HEADER_BYTES_MAX`.
    """
    if begun.startswith(SIGNATURE):
        return _read_binary(begun)
    if begun.startswith(_PREFIX):
        return _read_line(begun)
    if SIGNATURE.startswith(begun) or _PREFIX.startswith(begun):
        return None
    raise ProxyHeaderError("the connection does not begin with a PROXY header")


def write_header(version: ProxyVersion, ends: Ends) -> bytes:
    """The header that names `ends` to a backend."""
    source, destination = (
        # A link-local address may have a zone, which means nothing to anybody else.
        ipaddress.ip_address(end.host.partition("%")[0])
        for end in (ends.source, ends.destination)
    )
    ports = ends.source.port, ends.destination.port
    if source.version != destination.version:
        source, destination = _as_ipv6(source), _as_ipv6(destination)
    if version is ProxyVersion.V1:
        return b"PROXY TCP%d %b %b %d %d\r\n" % (
            source.version,
            str(source).encode(),
            str(destination).encode(),
            *ports,
        )
    family = _INET if source.version == 4 else _INET6
    addresses = source.packed + destination.packed + _PORTS.pack(*ports)
    return _binary(_PROXY, family << 4 | _STREAM, addresses)


def write_own_header(version: ProxyVersion) -> bytes:
    """The header of a connection that serves no client, such as a health probe."""
    if version is ProxyVersion.V1:
        return b"PROXY UNKNOWN\r\n"
    return _binary(_LOCAL, 0, b"")


def crc32c(content: bytes) -> int:
    """The checksum of RFC 3720 (Castagnoli)."""
    crc = 0xFFFFFFFF
    for byte in content:
        crc = crc >> 8 ^ _CRC32C[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def _crc32c_table() -> tuple[int, ...]:
    table = []
    for crc in range(256):
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
        table.append(crc)
    return tuple(table)


_CRC32C = _crc32c_table()


def _read_line(begun: bytes) -> ProxyHeader | None:
    end = begun.find(b"\n", 0, LINE_BYTES_MAX)
    if end < 0:
        if len(begun) >= LINE_BYTES_MAX:
            raise ProxyHeaderError("the PROXY line is too long")
        return None
    line = begun[: end + 1]
    if line.startswith(b"PROXY UNKNOWN") and line[13:14] in b" \r" and line.endswith(b"\r\n"):
        return ProxyHeader(len(line), None)
    match = _line(line)
    if match is None:
        raise ProxyHeaderError("the PROXY line is malformed")
    family, *hosts = match.groups()[:3]
    ports = [int(port) for port in match.groups()[3:]]
    kind = ipaddress.IPv4Address if family == b"4" else ipaddress.IPv6Address
    try:
        source, destination = (kind(host.decode()) for host in hosts)
    except ValueError:
        raise ProxyHeaderError("an address of the PROXY line is malformed") from None
    if max(ports) > _PORT_MAX:
        raise ProxyHeaderError("a port of the PROXY line is malformed")
    return ProxyHeader(len(line), _ends(source, destination, ports[0], ports[1]))


def _read_binary(begun: bytes) -> ProxyHeader | None:
    if len(begun) < _FIXED.size:
        return None
    _, command, protocol, length = _FIXED.unpack_from(begun)
    if command not in (_LOCAL, _PROXY):
        raise ProxyHeaderError("the PROXY header has an unknown version or command")
    size = _FIXED.size + length
    if size > HEADER_BYTES_MAX:
        raise ProxyHeaderError("the PROXY header is too long")
    if len(begun) < size:
        return None
    header = begun[:size]
    family, transport = protocol >> 4, protocol & 0x0F
    if family > _UNIX or transport > _DATAGRAM:
        raise ProxyHeaderError("the PROXY header has an unknown address family")
    if command == _LOCAL or family == _NO_FAMILY or transport == _UNSPECIFIED:
        # What follows has no agreed form; of a checksum nothing can be known either.
        return ProxyHeader(size, None)
    width = 2 * _IP_BYTES[family] + _PORTS.size if family != _UNIX else _UNIX_BYTES
    if length < width:
        raise ProxyHeaderError("the PROXY header is too short for its addresses")
    _check_tlvs(header, _FIXED.size + width)
    return ProxyHeader(size, _binary_ends(family, header[_FIXED.size :]))


def _binary_ends(family: int, block: bytes) -> Ends | None:
    if family == _UNIX:
        return None
    width = _IP_BYTES[family]
    ports = _PORTS.unpack_from(block, 2 * width)
    source = ipaddress.ip_address(block[:width])
    return _ends(source, ipaddress.ip_address(block[width : 2 * width]), *ports)


def _check_tlvs(header: bytes, position: int) -> None:
    """Refuse extensions that do not fill their place, and a checksum that is wrong."""
    while position < len(header):
        if position + _TLV.size > len(header):
            raise ProxyHeaderError("an extension of the PROXY header is cut off")
        kind, length = _TLV.unpack_from(header, position)
        position += _TLV.size
        if position + length > len(header):
            raise ProxyHeaderError("an extension of the PROXY header is cut off")
        if kind == _CRC32C_TLV:
            stated = header[position : position + length]
            blanked = header[:position] + bytes(length) + header[position + length :]
            if length != 4 or int.from_bytes(stated) != crc32c(blanked):
                raise ProxyHeaderError("the checksum of the PROXY header is wrong")
        position += length


def _binary(command: int, protocol: int, addresses: bytes) -> bytes:
    return _FIXED.pack(SIGNATURE, command, protocol, len(addresses)) + addresses


_Ip = ipaddress.IPv4Address | ipaddress.IPv6Address


def _ends(source: _Ip, destination: _Ip, source_port: int, destination_port: int) -> Ends:
    return Ends(
        Address(_as_text(source), source_port), Address(_as_text(destination), destination_port)
    )


def _as_text(address: _Ip) -> str:
    """One text for one client, however its address was written."""
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(address)


def _as_ipv6(address: _Ip) -> ipaddress.IPv6Address:
    if isinstance(address, ipaddress.IPv6Address):
        return address
    return ipaddress.IPv6Address(b"\0" * 10 + b"\xff\xff" + address.packed)
