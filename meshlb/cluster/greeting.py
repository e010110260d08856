"""Runs the handshake over a connection, on the side that dialled and on the one that answers.

Owns the reading and writing until a stream is established or refused. Must not know who may be
let in (it asks), nor what the stream is for. Time-outs are the caller's.

Spec: protocol/spec/handshake.md.
"""

from collections.abc import Callable
from typing import Final

import trio

from meshlb.errors import WireError
from meshlb.wire.handshake import (
    Established,
    Identity,
    Initiator,
    Proven,
    Refusal,
    RefusedByPeer,
    RefusedPeer,
    Responder,
    Send,
)

READ_BYTES: Final = 1_024
"""More than any message of the handshake."""

Greeting = Established | RefusedPeer | RefusedByPeer


async def greet(stream: trio.abc.Stream, initiator: Initiator) -> Greeting:
    """The handshake of the side that dialled.

    Raises:
        WireError: when the peer speaks something else, or hangs up.
        trio.BrokenResourceError: when the connection breaks.
    """
    await stream.send_all(initiator.start().payload)
    while True:
        for step in initiator.receive(await _read(stream)):
            match step:
                case Send(payload):
                    await stream.send_all(payload)
                case RefusedPeer(_, _, payload):
                    await stream.send_all(payload)
                    return step
                case Established() | RefusedByPeer():
                    return step
                case Proven():
                    raise AssertionError("only a responder has a peer to admit")


async def answer(
    stream: trio.abc.Stream,
    responder: Responder,
    admit: Callable[[Identity], Refusal | None],
) -> Greeting:
    """The handshake of the side that was dialled; `admit` judges a proven peer.

    Raises:
        WireError: when the peer speaks something else, or hangs up.
        trio.BrokenResourceError: when the connection breaks.
    """
    while True:
        for step in responder.receive(await _read(stream)):
            match step:
                case Send(payload):
                    await stream.send_all(payload)
                case Proven(peer):
                    return await _admit(stream, responder, admit(peer))
                case RefusedPeer(_, _, payload):
                    await stream.send_all(payload)
                    return step
                case RefusedByPeer():
                    return step
                case Established():
                    raise AssertionError("a responder is established by its own word")


async def _admit(
    stream: trio.abc.Stream, responder: Responder, refusal: Refusal | None
) -> Greeting:
    if refusal is not None:
        refused = responder.refuse(refusal)
        await stream.send_all(refused.payload)
        return refused
    accept, established = responder.accept()
    await stream.send_all(accept.payload)
    return established


async def _read(stream: trio.abc.Stream) -> bytes:
    chunk = bytes(await stream.receive_some(READ_BYTES))
    if not chunk:
        raise WireError("the peer hung up during the handshake")
    return chunk
