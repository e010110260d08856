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
    RefusedByPeer,
    RefusedPeer,
    Responder,
    Send,
)
from meshlb.wire.refusal import Refusal

READ_BYTES: Final = 1_024
"""More than any message of the handshake."""

Greeting = Established | RefusedPeer | RefusedByPeer


Judge = Callable[[Identity], Refusal | None]
"""Why this node does not want a proven peer; None where it does."""


async def greet(stream: trio.abc.Stream, initiator: Initiator, judge: Judge) -> Greeting:
    """The handshake of the side that dialled; `judge` judges the proven peer.

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
                case Proven(peer):
                    if (refusal := judge(peer)) is not None:
                        return await _refuse(stream, initiator, refusal)
                    await stream.send_all(initiator.confirm().payload)
                case Established() | RefusedByPeer():
                    return step


async def answer(stream: trio.abc.Stream, responder: Responder, judge: Judge) -> Greeting:
    """The handshake of the side that was dialled; `judge` judges the proven peer.

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
                    if (refusal := judge(peer)) is not None:
                        return await _refuse(stream, responder, refusal)
                    accept, established = responder.accept()
                    await stream.send_all(accept.payload)
                    return established
                case RefusedPeer(_, _, payload):
                    await stream.send_all(payload)
                    return step
                case RefusedByPeer():
                    return step
                case Established():
                    raise AssertionError("a responder is established by its own word")


async def _refuse(
    stream: trio.abc.Stream, side: Initiator | Responder, refusal: Refusal
) -> RefusedPeer:
    refused = side.refuse(refusal)
    await stream.send_all(refused.payload)
    return refused


async def _read(stream: trio.abc.Stream) -> bytes:
    chunk = bytes(await stream.receive_some(READ_BYTES))
    if not chunk:
        raise WireError("the peer hung up during the handshake")
    return chunk
