"""The two ends that a test plays itself: clients and backends of raw bytes, said and heard."""

import contextlib
import re
import select
import socket
import struct
from dataclasses import dataclass, field

import trio

RESET_ON_CLOSE = struct.pack("ii", 1, 0)
SILENCE_S = 0.05


@dataclass
class Message:
    """A request or a response as it was heard; `raw` has every byte of it."""

    line: bytes
    fields: list[tuple[bytes, bytes]]
    body: bytes = b""
    raw: bytes = b""
    trailers: list[bytes] = field(default_factory=list)

    @property
    def status(self) -> int:
        return int(self.line.split()[1])

    def all(self, name: str) -> list[bytes]:
        return [value for key, value in self.fields if key == name.lower().encode()]

    def __getitem__(self, name: str) -> bytes:
        (value,) = self.all(name)
        return value

    def __contains__(self, name: str) -> bool:
        return bool(self.all(name))

    @property
    def cookie(self) -> bytes:
        """The `name=value` of the one Set-Cookie."""
        return self["set-cookie"].partition(b";")[0]


class Wire:
    """One end of a TCP connection."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self._heard = b""

    async def say(self, *pieces: bytes) -> None:
        """Each piece on its own."""
        for piece in pieces:
            await self.stream.send_all(piece)

    async def say_in_vain(self, message: bytes) -> None:
        """Until either end is closed."""
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await self.stream.send_all(message)

    async def dribble(self, message: bytes, *, size: int = 1) -> None:
        """In pieces of `size` bytes, each with a chance to be read alone."""
        for start in range(0, len(message), size):
            await self.stream.send_all(message[start : start + size])
            await trio.lowlevel.checkpoint()

    def has_news(self) -> bool:
        """Whether something can be heard without waiting."""
        return bool(select.select([self.stream.socket], [], [], 0)[0])

    async def until(self, mark: bytes) -> bytes:
        while mark not in self._heard:
            await self._more()
        end = self._heard.index(mark) + len(mark)
        taken, self._heard = self._heard[:end], self._heard[end:]
        return taken

    async def exactly(self, size: int) -> bytes:
        while len(self._heard) < size:
            await self._more()
        taken, self._heard = self._heard[:size], self._heard[size:]
        return taken

    async def hear(self, expected: bytes) -> None:
        heard = await self.exactly(len(expected))
        assert heard == expected

    async def some(self, size: int) -> bytes:
        """What is there, up to `size`."""
        heard, self._heard = self._heard, b""
        return heard or await self.stream.receive_some(size)

    async def rest(self) -> bytes:
        """All up to the FIN."""
        heard, self._heard = self._heard, b""
        while piece := await self.stream.receive_some():
            heard += piece
        return heard

    async def ended(self) -> None:
        """The other end has sent its FIN, and nothing before it."""
        assert await self.rest() == b""

    async def broken(self) -> bytes:
        """The other end has sent a reset; what came before it."""
        heard, self._heard = self._heard, b""
        try:
            while piece := await self.stream.receive_some():
                heard += piece
        except trio.BrokenResourceError:
            return heard
        raise AssertionError(f"a clean end after {heard!r}")

    async def remains(self) -> bytes:
        """All that still comes before the other end has closed, one way or the other."""
        heard, self._heard = self._heard, b""
        try:
            while piece := await self.stream.receive_some():
                heard += piece
        except trio.BrokenResourceError:
            pass
        return heard

    async def gone(self) -> None:
        """The other end has closed, one way or the other; what it said does not matter."""
        await self.remains()

    async def silent(self, seconds: float = SILENCE_S) -> None:
        """Nothing comes, and nothing ends."""
        with trio.move_on_after(seconds):
            await self._more()
        assert self._heard == b""

    async def head(self) -> Message:
        raw = await self.until(b"\r\n\r\n")
        line, *lines = raw[:-4].split(b"\r\n")
        fields = []
        for each in lines:
            name, _, value = each.partition(b":")
            fields.append((name.lower(), value.strip()))
        return Message(line, fields, raw=raw)

    async def message(self, *, bodiless: bool = False) -> Message:
        """A request or response with its body; one without a stated end goes to the FIN."""
        message = await self.head()
        is_response = message.line.startswith(b"HTTP/")
        if bodiless or (is_response and (message.status < 200 or message.status in (204, 304))):
            return message
        if "transfer-encoding" in message:
            await self._chunks(message)
        elif "content-length" in message:
            message.body = await self.exactly(int(message["content-length"]))
            message.raw += message.body
        elif is_response:
            message.body = await self.rest()
            message.raw += message.body
        return message

    async def _chunks(self, message: Message) -> None:
        while True:
            line = await self.until(b"\r\n")
            message.raw += line
            size = int(line.partition(b";")[0], 16)
            if not size:
                break
            chunk = await self.exactly(size + 2)
            message.raw += chunk
            message.body += chunk[:-2]
        while (line := await self.until(b"\r\n")) != b"\r\n":
            message.raw += line
            message.trailers.append(line[:-2])
        message.raw += line

    async def fin(self) -> None:
        await self.stream.send_eof()

    async def close(self) -> None:
        await self.stream.aclose()

    def say_now(self, message: bytes) -> None:
        """Without giving the proxy a turn."""
        assert self.stream.socket._sock.send(message) == len(message)

    def close_now(self) -> None:
        """Likewise."""
        self.stream.socket.close()

    def reset(self) -> None:
        """Close with a RST."""
        self.stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        self.stream.socket.close()

    async def _more(self) -> None:
        piece = await self.stream.receive_some()
        if not piece:
            raise AssertionError(f"ended early, after {self._heard!r}")
        self._heard += piece


class Origin:
    """A backend that a test plays by hand: `accept` gives the connections, in their order."""

    def __init__(self) -> None:
        self.port = 0
        self.wires: list[Wire] = []
        self.open()

    def open(self) -> None:
        """Listen, again on the same port."""
        listening = socket.create_server(("127.0.0.1", self.port))
        listening.setblocking(False)
        self.port = listening.getsockname()[1]
        self._listening = trio.socket.from_stdlib_socket(listening)

    async def accept(self, *, talks: bool = True) -> Wire:
        """The next connection; of those that `talk` first, which leaves out health probes."""
        while True:
            sock, _ = await self._listening.accept()
            wire = Wire(trio.SocketStream(sock))
            self.wires.append(wire)
            if not talks or await sock.recv(1, socket.MSG_PEEK):
                return wire
            sock.close()

    async def nobody(self, seconds: float = SILENCE_S) -> None:
        """No further connection comes."""
        with trio.move_on_after(seconds):
            await self.accept()
            raise AssertionError("somebody connected")

    async def skip_probes(self) -> None:
        """Take probes that are over out of the queue."""
        with trio.move_on_after(0.02):
            while True:
                sock, _ = await self._listening.accept()
                sock.close()

    def close(self) -> None:
        """Refuse connections from now on, and close those that are open."""
        self._listening.close()
        for wire in self.wires:
            wire.stream.socket.close()


class Recorder:
    """A backend that is as lenient as can be: whatever looks like a request line is a request.

    It answers each of them with 200 and the request line as the body.
    """

    _requests = re.compile(rb"([A-Za-z]+ [^\r\n]+ HTTP/1\.[01])\r?\n").findall

    def __init__(self, origin: Origin) -> None:
        self._origin = origin
        self.heard: list[bytearray] = []

    @property
    def requests(self) -> list[bytes]:
        return [line for each in self.heard for line in self._requests(bytes(each))]

    @property
    def connections(self) -> int:
        """On which something was said."""
        return sum(map(bool, self.heard))

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            with contextlib.suppress(trio.ClosedResourceError):
                while True:
                    nursery.start_soon(self._serve, await self._origin.accept(talks=False))

    async def _serve(self, wire: Wire) -> None:
        heard = bytearray()
        self.heard.append(heard)
        answered = 0
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while piece := await wire.stream.receive_some():
                heard += piece
                if b"\r\n\r\n" not in heard:
                    continue
                requests = self._requests(bytes(heard))
                for line in requests[answered:]:
                    await wire.say(
                        b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(line), line)
                    )
                answered = len(requests)
        await wire.close()
