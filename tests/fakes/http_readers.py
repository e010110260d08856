"""Readers of HTTP messages: ours, h11 and llhttp (by way of httptools), side by side.

Each returns None for what it refuses, or has not read to the end of the head.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import h11
import httptools

from meshlb.core.http.body import BodyError, ChunkedReader
from meshlb.core.http.fields import Fault, backend_fault, client_fault
from meshlb.core.http.framing import Body, BodyKind
from meshlb.core.http.head import find_head_end
from meshlb.core.http.request import RequestParser
from meshlb.core.http.response import ResponseParser
from meshlb.errors import DownstreamError, UpstreamError


@dataclass(frozen=True)
class Reading:
    """What a reader made of one message: its payload, and at which byte of the stream it ended."""

    payload: bytes
    end: int | None


# Readers: each returns None for what it refuses, or has not read to the end of the head.


def read_body(body: Body, head_bytes: int, rest: bytes) -> Reading | None:
    if body.kind is BodyKind.NONE:
        return Reading(b"", head_bytes)
    if body.kind is BodyKind.CLOSE:
        return Reading(rest, None)
    if body.kind is BodyKind.LENGTH:
        is_whole = len(rest) >= body.length
        return Reading(rest[: body.length], head_bytes + body.length if is_whole else None)
    reader = ChunkedReader(decode=True)
    try:
        consumed, ended = reader.feed(rest)
    except BodyError:
        return None
    return Reading(reader.payload(), head_bytes + consumed if ended else None)


def our_request(stream: bytes) -> Reading | None:
    try:
        end = find_head_end(stream)
        body = RequestParser().parse(stream[:end]).body if end >= 0 else None
    except DownstreamError:
        return None
    return read_body(body, end, stream[end:]) if body else None


def our_response(stream: bytes) -> Reading | None:
    try:
        end = find_head_end(stream, fault=backend_fault)
        body = ResponseParser().parse(stream[:end], method=b"GET").body if end >= 0 else None
    except UpstreamError:
        return None
    return read_body(body, end, stream[end:]) if body else None


def read_by_h11(connection: h11.Connection, stream: bytes) -> Reading | None:
    payload = b""
    connection.receive_data(stream)
    try:
        head = connection.next_event()
        if not isinstance(head, (h11.Request, h11.Response, h11.InformationalResponse)):
            return None
        if not isinstance(head, h11.InformationalResponse):
            while isinstance(event := connection.next_event(), h11.Data):
                payload += bytes(event.data)
            if not isinstance(event, h11.EndOfMessage):
                return Reading(payload, None)
    except h11.RemoteProtocolError:
        return None
    return Reading(payload, len(stream) - len(connection.trailing_data[0]))


def h11_request(stream: bytes) -> Reading | None:
    return read_by_h11(h11.Connection(h11.SERVER), stream)


def h11_response(stream: bytes) -> Reading | None:
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method="GET", target="/", headers=[("Host", "a")]))
    connection.send(h11.EndOfMessage())
    return read_by_h11(connection, stream)


class Listener:
    """Collects what llhttp reports."""

    def __init__(self) -> None:
        self.payload = b""
        self.head_ended = False
        self.ended = False

    def on_headers_complete(self) -> None:
        self.head_ended = True

    def on_body(self, body: bytes) -> None:
        self.payload += body

    def on_message_complete(self) -> None:
        self.ended = True


def read_by_llhttp(parser_type: type, stream: bytes) -> Reading | None:
    listener = Listener()
    parser = parser_type(listener)
    try:
        for position in range(len(stream)):
            parser.feed_data(stream[position : position + 1])
            if listener.ended:
                return Reading(listener.payload, position + 1)
    except httptools.HttpParserError:
        return None
    return Reading(listener.payload, None) if listener.head_ended else None


def llhttp_request(stream: bytes) -> Reading | None:
    return read_by_llhttp(httptools.HttpRequestParser, stream)


def llhttp_response(stream: bytes) -> Reading | None:
    return read_by_llhttp(httptools.HttpResponseParser, stream)


def collect_head(
    pieces: Iterable[bytes], fault: Fault = client_fault
) -> tuple[bytes, bytes] | None:
    """The first head in a stream, and what follows in its last piece; None: it does not end."""
    buffer = b""
    for piece in pieces:
        scanned = len(buffer)
        buffer += piece
        end = find_head_end(buffer, scanned=scanned, fault=fault)
        if end >= 0:
            return buffer[:end], buffer[end:]
    return None
