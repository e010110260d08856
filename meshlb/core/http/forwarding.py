"""The X-Forwarded-* lines: for whom a request is made, as far as that can be believed.

Owns the rule of `trusted_proxies`: what a trusted proxy says is appended to, what anybody else
says is dropped. It never sees the lines themselves: `request` has taken them out.
"""

import ipaddress
from collections.abc import Iterable
from typing import Final

from meshlb.core.http.request import RequestHead

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

CLIENTS_MAX: Final = 8_192
"""Clients whose lines are remembered; forgotten all at once, when there are more."""

_LISTED = (b"x-forwarded-for", b"forwarded")
"""Fields that every proxy on the way appends itself to."""


class Forwarding:
    """Writes the lines for the requests of one listener."""

    def __init__(self, trusted: Iterable[Network] = (), *, secure: bool = False) -> None:
        """Make a writer.

        Args:
            trusted: who may say for whom a request is made.
            secure: clients come by TLS.
        """
        self._trusted = tuple(trusted)
        self._proto = b"https" if secure else b"http"
        self._lines: dict[tuple[bytes, bytes], bytes] = {}
        self._trusts: dict[bytes, bool] = {}

    def lines(self, client: bytes, request: RequestHead) -> bytes:
        """The lines to send upstream behind `request.forward`, each with its CRLF.

        Args:
            client: the address at the other end of the connection, as text.
            request: the head.
        """
        if request.forwarded and self.is_trusted(client):
            return self._appended(client, request)
        lines = self._lines.get((client, request.host))
        if lines is None:
            if len(self._lines) >= CLIENTS_MAX:
                self._lines.clear()
            lines = self._lines[client, request.host] = self._own(client, request.host)
        return lines

    def is_trusted(self, client: bytes) -> bool:
        """Whether `client` may say for whom a request is made; False for what is no address."""
        if not self._trusted:
            return False
        trusts = self._trusts.get(client)
        if trusts is None:
            if len(self._trusts) >= CLIENTS_MAX:
                self._trusts.clear()
            trusts = self._trusts[client] = self._look_up_trust(client)
        return trusts

    def origin(self, client: bytes, request: RequestHead) -> bytes:
        """The address of the client itself: the last in X-Forwarded-For that is no trusted proxy.

        Where an item is no address, its writer is the last one known.
        """
        if not request.forwarded or not self.is_trusted(client):
            return client
        origin = client
        stated = dict(request.forwarded).get(b"x-forwarded-for", b"")
        for item in reversed(stated.split(b",")):
            address = _parse_address(item.strip(b" \t"))
            if address is None:
                break
            origin = str(address).encode()
            if not self.is_trusted(origin):
                break
        return origin

    def _own(self, client: bytes, host: bytes) -> bytes:
        lines = b"X-Forwarded-For: %b\r\nX-Forwarded-Proto: %b\r\n" % (client, self._proto)
        return lines + b"X-Forwarded-Host: %b\r\n" % host if host else lines

    def _appended(self, client: bytes, request: RequestHead) -> bytes:
        """What the trusted proxy said, plus that proxy itself."""
        stated = dict(request.forwarded)
        own = {b"x-forwarded-for": client, b"forwarded": b"for=" + _forwarded_node(client)}
        lines = []
        for name in _LISTED:
            if name in stated:
                lines.append((name, stated.pop(name) + b", " + own[name]))
            elif name == b"x-forwarded-for":
                lines.append((name, client))
        stated.setdefault(b"x-forwarded-proto", self._proto)
        if request.host:
            stated.setdefault(b"x-forwarded-host", request.host)
        lines.extend(stated.items())
        return b"".join(b"%b: %b\r\n" % (name.title(), value) for name, value in lines)

    def _look_up_trust(self, client: bytes) -> bool:
        address = _parse_address(client)
        return address is not None and any(address in network for network in self._trusted)


def _parse_address(text: bytes) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address that `text` is, an IPv4 one mapped into IPv6 as itself; None for other text."""
    try:
        address = ipaddress.ip_address(text.decode("ascii"))
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def _forwarded_node(client: bytes) -> bytes:
    """An address as RFC 7239 section 6 writes it."""
    return b'"[%b]"' % client if b":" in client else client
