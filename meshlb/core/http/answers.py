"""The proxy's own answers: short, plain, and the same for everybody.

Owns their wording. A reason in detail goes to the log and never to the client, who may be the
one who probes for it.
"""

import http

VIA_SERVER = b"meshlb"


def answer(
    status: int,
    *,
    close: bool,
    retry_after_s: int | None = None,
    head_only: bool = False,
) -> bytes:
    """A whole response.

    Args:
        status: a registered HTTP status: 200 to OPTIONS, else from 400.
        close: the connection ends after it.
        retry_after_s: what to say in Retry-After.
        head_only: leave the body out, as after HEAD; its length is still stated.
    """
    reason = http.HTTPStatus(status).phrase.encode()
    body = b"%d %b\n" % (status, reason)
    lines = [
        b"HTTP/1.1 %d %b" % (status, reason),
        b"Server: " + VIA_SERVER,
        b"Content-Type: text/plain; charset=utf-8",
        b"Content-Length: %d" % len(body),
        b"Cache-Control: no-store",
    ]
    if status in (http.HTTPStatus.OK, http.HTTPStatus.METHOD_NOT_ALLOWED):
        # RFC 9110 15.5.6 asks for Allow; what is allowed here is all but CONNECT and TRACE.
        lines.append(b"Allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")
    if retry_after_s is not None:
        lines.append(b"Retry-After: %d" % retry_after_s)
    if close:
        lines.append(b"Connection: close")
    return b"\r\n".join(lines) + b"\r\n\r\n" + (b"" if head_only else body)
