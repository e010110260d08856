"""A backend on Python's own http.server: what each path answers is in `PlainHandler`.

Run as `python -m tests.peers.backends.plain --name NAME --port PORT`.
"""

import argparse
import hashlib
import json
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar
from urllib.parse import parse_qs, urlsplit

BLOCK = bytes(range(256)) * 256


class PlainHandler(BaseHTTPRequestHandler):
    """Answers by path; every answer carries X-Backend.

    /             the backend's name
    /request      method, target and fields of the request as it arrived, as JSON
    /digest       SHA-256 and size of the request body, sized or chunked, and its trailers
    /large?size=N N bytes of a known pattern, sized
    /chunks?count=N  N chunks and a trailer X-Checksum
    /status/CODE  that status, without a body
    /slow?ms=N    the name, after N milliseconds
    /close        the name, without framing: the end of the connection ends the body
    /early        403 at once, without reading the body
    """

    protocol_version = "HTTP/1.1"
    backend_name: ClassVar[str]

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        if url.path == "/request":
            fields = [[name, value] for name, value in self.headers.items()]
            about = {"method": self.command, "target": self.path, "fields": fields}
            self._sized(json.dumps(about).encode())
        elif url.path == "/digest":
            self._digest()
        elif url.path == "/large":
            self._large(int(query["size"]))
        elif url.path == "/chunks":
            self._chunks(int(query["count"]))
        elif url.path.startswith("/status/"):
            self.send_response(int(url.path.removeprefix("/status/")))
            self.send_header("X-Backend", self.backend_name)
            self.end_headers()
        elif url.path == "/close":
            self._until_close()
        elif url.path == "/early":
            self._sized(b"no\n", status=403, close=True)
        else:
            time.sleep(int(query.get("ms", 0)) / 1000)
            self._sized(f"{self.backend_name}\n".encode())

    do_HEAD = do_POST = do_PUT = do_DELETE = do_OPTIONS = do_GET  # noqa: N815 - http.server's names

    def _sized(self, body: bytes, *, status: int = 200, close: bool = False) -> None:
        self.send_response(status)
        self.send_header("X-Backend", self.backend_name)
        self.send_header("Content-Length", str(len(body)))
        if close:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _digest(self) -> None:
        digest, size = hashlib.sha256(), 0
        for block in self._body():
            digest.update(block)
            size += len(block)
        about = {"sha256": digest.hexdigest(), "size": size, "trailers": self._trailers}
        self._sized(json.dumps(about).encode())

    def _body(self) -> Iterator[bytes]:
        self._trailers: dict[str, str] = {}
        if self.headers.get("Transfer-Encoding") == "chunked":
            while size := int(self.rfile.readline().split(b";")[0], 16):
                yield self.rfile.read(size)
                self.rfile.readline()
            while (line := self.rfile.readline().strip()) != b"":
                name, _, value = line.decode().partition(": ")
                self._trailers[name.lower()] = value
        else:
            remaining = int(self.headers.get("Content-Length", 0))
            while remaining:
                block = self.rfile.read(min(remaining, 65_536))
                remaining -= len(block)
                yield block

    def _large(self, size: int) -> None:
        self.send_response(200)
        self.send_header("X-Backend", self.backend_name)
        self.send_header("Content-Length", str(size))
        self.end_headers()
        if self.command == "HEAD":
            return
        for begin in range(0, size, len(BLOCK)):
            self.wfile.write(BLOCK[: size - begin])

    def _chunks(self, count: int) -> None:
        self.send_response(200)
        self.send_header("X-Backend", self.backend_name)
        self.send_header("Transfer-Encoding", "chunked")
        self.send_header("Trailer", "X-Checksum")
        self.end_headers()
        if self.command == "HEAD":
            return
        digest = hashlib.sha256()
        for number in range(count):
            chunk = b"chunk %d\n" % number
            digest.update(chunk)
            self.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
        self.wfile.write(b"0\r\nX-Checksum: %s\r\n\r\n" % digest.hexdigest().encode())

    def _until_close(self) -> None:
        self.send_response(200)
        self.send_header("X-Backend", self.backend_name)
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(f"{self.backend_name}\n".encode())

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Say nothing: the tests read answers, not logs."""


class PlainServer(ThreadingHTTPServer):
    """A thread a connection, and a listen queue for the bursts of the tests."""

    daemon_threads = True
    request_queue_size = 256


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--name", required=True)
    parser.add_argument("--port", type=int, required=True)
    arguments = parser.parse_args()
    PlainHandler.backend_name = arguments.name
    PlainServer(("127.0.0.1", arguments.port), PlainHandler).serve_forever()
