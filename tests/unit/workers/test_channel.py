import os
import socket
from collections.abc import Iterator

import pytest
import trio
import trio.lowlevel
import trio.testing

from meshlb.errors import WorkerError, WorkerGoneError
from meshlb.workers import channel as channel_module
from meshlb.workers.channel import Channel
from meshlb.workers.messages import Message, Open, Ready, Secrets, Seen


@pytest.fixture
def pair() -> Iterator[tuple[Channel, Channel]]:
    ours, theirs = socket.socketpair()
    ends = Channel(ours), Channel(theirs, takes_fds=True)
    yield ends
    for end in ends:
        end.close()


async def receive(end: Channel, count: int) -> list[Message]:
    messages: list[Message] = []
    with trio.fail_after(60):
        while len(messages) < count:
            messages += await end.receive()
    return messages


async def test_messages_arrive_in_order_and_in_one_frame(pair, nursery) -> None:
    here, there = pair
    said = [Seen(number) for number in range(1_000)]
    for message in said:
        here.put(message)
    nursery.start_soon(here.send_all)
    with trio.fail_after(60):
        assert await there.receive() == said
    assert here.outbox_bytes == 0


async def test_a_message_larger_than_any_buffer_arrives_whole(pair, nursery) -> None:
    here, there = pair
    large = Secrets([os.urandom(3 << 20)], b"key")
    nursery.start_soon(here.send_all)
    here.put(Ready())
    here.put(large)
    here.put(Open())
    assert await receive(there, 3) == [Ready(), large, Open()]


async def test_descriptors_come_with_their_message(pair, nursery) -> None:
    here, there = pair
    reading, writing = os.pipe()
    here.put(Seen(1))
    here.put(Seen(2), [writing])
    os.close(writing)  # It was duplicated.
    here.put(Seen(3))
    nursery.start_soon(here.send_all)
    assert await receive(there, 3) == [Seen(1), Seen(2), Seen(3)]
    (taken,) = there.take_fds(1)
    os.write(taken, b"x")
    os.close(taken)
    assert os.read(reading, 2) == b"x"
    assert os.read(reading, 2) == b""  # No copy is left open.
    os.close(reading)
    with pytest.raises(WorkerError, match="missing"):
        there.take_fds(1)


async def test_descriptors_that_nobody_took_are_closed(pair, nursery) -> None:
    here, there = pair
    reading, writing = os.pipe()
    here.put(Seen(1), [writing])
    nursery.start_soon(here.send_all)
    assert await receive(there, 1) == [Seen(1)]
    here.put(Seen(2), [writing])
    os.close(writing)
    there.close()
    here.close()
    nursery.cancel_scope.cancel()
    assert os.read(reading, 1) == b""
    os.close(reading)


async def test_the_end_of_the_other_process_is_noticed(pair, nursery) -> None:
    here, there = pair
    there.close()
    with pytest.raises(WorkerGoneError):
        await here.receive()
    here.put(Open())
    with trio.fail_after(60), pytest.raises(WorkerGoneError):
        await here.send_all()


async def test_who_does_not_read_is_given_up(pair, monkeypatch) -> None:
    here, _ = pair
    monkeypatch.setattr(channel_module, "OUTBOX_BYTES_MAX", 10_000)
    for _ in range(10):
        here.put(Secrets([b"x" * 1_000], b""))
    with pytest.raises(WorkerError, match="does not read"):
        here.put(Ready())
    assert here.outbox_bytes < 12_000


async def test_a_frame_that_is_too_large_is_refused_before_it_is_read(pair) -> None:
    here, there = pair
    size = (channel_module.MESSAGE_BYTES_MAX + 1).to_bytes(4, "little")
    here._sock.send(size + b"\0\0")
    with trio.fail_after(60), pytest.raises(WorkerError, match="too large"):
        await there.receive()


async def test_a_frame_may_come_byte_by_byte(pair, nursery) -> None:
    here, there = pair
    ours, theirs = socket.socketpair()
    slow = Channel(theirs)
    here.put(Seen(300))
    here.put(Seen(4))
    nursery.start_soon(here.send_all)
    await trio.testing.wait_all_tasks_blocked()
    frame = there._sock.recv(100)
    got: list[Message] = []

    async def listen() -> None:
        got.extend(await slow.receive())

    nursery.start_soon(listen)
    for place in range(len(frame)):
        assert got == []
        ours.send(frame[place : place + 1])
        await trio.testing.wait_all_tasks_blocked()
    with trio.fail_after(60):
        while not got:
            await trio.lowlevel.checkpoint()
    assert got == [Seen(300), Seen(4)]
    ours.close()
    slow.close()
    nursery.cancel_scope.cancel()
