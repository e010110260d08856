"""The handshake of members over a fresh connection: as it is, or inside TLS.

Owns what comes before the first message of a handshake, what its failures mean, and whether a
certificate names the peer that the handshake has proven. Must not know what is said on the stream
afterwards; time-outs are the caller's.

Spec: protocol/spec/handshake.md, "Inside TLS".
"""

import socket
from dataclasses import replace
from typing import Final

import trio

from meshlb.cluster.greeting import Greeting, Judge, answer, greet
from meshlb.net.mutual_tls import MutualTls, tls_failure
from meshlb.net.tls_stream import TlsStream
from meshlb.wire.handshake import (
    FrameKind,
    Identity,
    Initiator,
    RefusedPeer,
    Responder,
    refuse_frame,
)
from meshlb.wire.refusal import Refusal

HELLO: Final = bytes([FrameKind.HELLO])

Greeted = tuple[trio.abc.Stream, Greeting]
"""What the handshake came to, and what to talk on if it was established."""


class Channel:
    """One per node; `tls` is None where streams are plain."""

    def __init__(self, tls: MutualTls | None) -> None:
        self._tls = tls

    async def greet(self, raw: trio.SocketStream, initiator: Initiator, judge: Judge) -> Greeted:
        """The side that dialled.

        Raises:
            WireError: when the peer speaks something else, or hangs up.
            trio.BrokenResourceError: when the connection breaks.
        """
        if self._tls is None:
            return raw, await greet(raw, initiator, judge)
        stream = TlsStream(raw, self._tls.client, server_side=False)
        try:
            await stream.do_handshake()
            greeting = await greet(stream, initiator, self._believing(stream, judge))
        except trio.BrokenResourceError as error:
            greeting = _refusal(error)
        return stream, _explained(greeting, stream)

    async def answer(self, raw: trio.SocketStream, responder: Responder, judge: Judge) -> Greeted:
        """The side that was dialled; a peer without TLS is told what it lacks.

        Raises:
            WireError: when the peer speaks something else, or hangs up.
            trio.BrokenResourceError: when the connection breaks.
        """
        if self._tls is None:
            return raw, await answer(raw, responder, judge)
        if await raw.socket.recv(1, socket.MSG_PEEK) == HELLO:
            await raw.send_all(refuse_frame(Refusal.TLS_REQUIRED))
            return raw, RefusedPeer(Refusal.TLS_REQUIRED, None, b"")
        stream = TlsStream(raw, self._tls.server, server_side=True)
        try:
            await stream.do_handshake()
            greeting = await answer(stream, responder, self._believing(stream, judge))
        except trio.BrokenResourceError as error:
            greeting = _refusal(error)
        return stream, _explained(greeting, stream)

    def _believing(self, stream: TlsStream, judge: Judge) -> Judge:
        """`judge`, of peers that the certificate behind `stream` names."""
        assert self._tls is not None
        if not self._tls.verify_names:
            return judge

        def judge_named(peer: Identity) -> Refusal | None:
            return judge(peer) if peer.name in stream.names() else Refusal.CERTIFICATE

        return judge_named


def _refusal(error: trio.BrokenResourceError) -> RefusedPeer:
    """Why two sides did not come to terms; raises again what was only cut off."""
    failure = tls_failure(error)
    if failure is None:
        raise error
    reason = Refusal.CERTIFICATE if failure.is_about_certificates else Refusal.NO_TLS
    return RefusedPeer(reason, None, b"", failure.detail)


def _explained(greeting: Greeting, stream: TlsStream) -> Greeting:
    """With the names that a certificate has, where it has not that of its node."""
    if (
        not isinstance(greeting, RefusedPeer)
        or greeting.reason is not Refusal.CERTIFICATE
        or greeting.detail
    ):
        return greeting
    names = ", ".join(stream.names()) or "nobody"
    return replace(greeting, detail=f"the certificate of {greeting.claimed_name} names {names}")
