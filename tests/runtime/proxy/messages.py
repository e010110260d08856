"""Short ways to write requests and responses."""


def head(line: bytes, *fields: bytes) -> bytes:
    return b"\r\n".join((line, *fields)) + b"\r\n\r\n"


def get(path: bytes = b"/", *fields: bytes, version: bytes = b"1.1") -> bytes:
    return head(b"GET %b HTTP/%b" % (path, version), b"Host: shop", *fields)


def post(body: bytes, *fields: bytes, path: bytes = b"/") -> bytes:
    length = b"Content-Length: %d" % len(body)
    return head(b"POST %b HTTP/1.1" % path, b"Host: shop", length, *fields) + body


def post_chunked(*chunks: bytes, trailers: tuple[bytes, ...] = (), path: bytes = b"/") -> bytes:
    start = head(b"POST %b HTTP/1.1" % path, b"Host: shop", b"Transfer-Encoding: chunked")
    return start + chunked(*chunks, trailers=trailers)


def chunked(*chunks: bytes, trailers: tuple[bytes, ...] = ()) -> bytes:
    body = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
    return body + b"0\r\n" + b"".join(line + b"\r\n" for line in trailers) + b"\r\n"


def ok(body: bytes = b"", *fields: bytes) -> bytes:
    return head(b"HTTP/1.1 200 OK", b"Content-Length: %d" % len(body), *fields) + body


def ok_chunked(*chunks: bytes, trailers: tuple[bytes, ...] = ()) -> bytes:
    start = head(b"HTTP/1.1 200 OK", b"Transfer-Encoding: chunked")
    return start + chunked(*chunks, trailers=trailers)
