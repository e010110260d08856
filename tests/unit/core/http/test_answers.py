"""The proxy's own answers, read back by a client's parser."""

import h11
import pytest

from meshlb.core.http.answers import answer


def read(raw: bytes, method: str = "GET") -> tuple[h11.Response, bytes]:
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method=method, target="/", headers=[("Host", "a")]))
    client.send(h11.EndOfMessage())
    client.receive_data(raw)
    response = client.next_event()
    assert isinstance(response, h11.Response)
    body = b""
    while isinstance(event := client.next_event(), h11.Data):
        body += bytes(event.data)
    assert isinstance(event, h11.EndOfMessage)
    assert client.trailing_data == (b"", False)
    return response, body


@pytest.mark.parametrize("status", [200, 400, 405, 408, 417, 431, 500, 501, 502, 503, 504, 505])
def test_is_short_and_plain(status):
    response, body = read(answer(status, close=True))
    headers = dict(response.headers)
    assert response.status_code == status
    assert body.startswith(b"%d " % status)
    assert len(body) < 64
    assert headers[b"server"] == b"meshlb"
    assert headers[b"content-type"].startswith(b"text/plain")
    assert headers[b"connection"] == b"close"
    assert (b"allow" in headers) == (status in (200, 405))


def test_says_when_to_come_back_and_keeps_the_connection():
    headers = dict(read(answer(503, close=False, retry_after_s=7))[0].headers)
    assert headers[b"retry-after"] == b"7"
    assert b"connection" not in headers


def test_has_no_body_after_head_but_its_length():
    response, body = read(answer(502, close=False, head_only=True), method="HEAD")
    assert body == b""
    assert dict(response.headers)[b"content-length"] == b"16"
