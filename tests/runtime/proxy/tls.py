"""Clients of a listener with TLS, whose own side is Python's."""

import ssl
from pathlib import Path

import trio

from tests.fakes.certificates import Authority, Files
from tests.runtime.proxy.messages import get, ok
from tests.runtime.proxy.rig import Rig
from tests.runtime.proxy.wire import Wire

NAME = "app.example"


class TlsEnd:
    """What a wire needs of a stream. An end that was not announced breaks it."""

    def __init__(self, tls: trio.SSLStream[trio.SocketStream]) -> None:
        self.tls = tls
        self.socket = tls.transport_stream.socket
        self.send_all = tls.send_all
        self.receive_some = tls.receive_some
        self.aclose = tls.aclose


class Site:
    """An authority, the certificate of a listener, and what its clients believe."""

    def __init__(self, directory: Path) -> None:
        self.authority = Authority(directory)
        self.files = self.authority.sign(NAME, names=(NAME,))

    @property
    def listener(self) -> str:
        """The line of the configuration."""
        return f"tls = {{ {pair(self.files)} }}"

    def trust(self, *, version: ssl.TLSVersion | None = None) -> ssl.SSLContext:
        """A client's context, if need be for one version only."""
        context = ssl.create_default_context(cafile=self.authority.ca)
        if version is not None:
            context.minimum_version = context.maximum_version = version
        return context

    async def client(
        self,
        rig: Rig,
        *,
        context: ssl.SSLContext | None = None,
        name: str = NAME,
        receive_bytes: int | None = None,
    ) -> Wire:
        """A new client that has shaken hands."""
        raw = await rig.client(receive_bytes=receive_bytes)
        stream = trio.SSLStream(raw.stream, context or self.trust(), server_hostname=name)
        await stream.do_handshake()
        return Wire(TlsEnd(stream))


def pair(files: Files) -> str:
    """The options for a certificate and its key."""
    return f'cert = "{files.cert}", key = "{files.key}"'


async def exchange(rig: Rig, client: Wire, body: bytes = b"hello") -> None:
    """One request, on a backend connection of its own."""
    await client.say(get())
    backend = await rig.accept()
    await backend.message()
    await backend.say(ok(body, b"Connection: close"))
    assert (await client.message()).body == body
