"""What a node does about the kernel relay at its start, and which streams go there."""

import hashlib
import random
import socket

import pytest
import trio

from meshlb.errors import RelayError
from meshlb.net.bpf.calls import BpfError
from meshlb.net.bpf.relay_program import REDIRECTED, RelayProgram
from meshlb.net.reactor import Reactor
from meshlb.proxy.kernel_probe import probe
from meshlb.proxy.kernel_relay import MESSAGES_MIN, KernelRelay, open_relay
from meshlb.proxy.relayed_end import CARRIED, CREDIT_BYTES_MAX, RelayedEnd
from tests.fakes.privileges import as_nobody, need_kernel_relay
from tests.runtime.proxy.rig import eventually, scripted
from tests.runtime.proxy.test_tunnel import before_its_tunnel, running, tcp_pair
from tests.runtime.proxy.test_upgrade import tunnel

PIECE_BYTES_MAX = 1 << 19
"""What the kernel may receive in one piece."""


def test_a_process_without_capabilities_finds_out_why_it_cannot():
    with pytest.raises(BpfError, match="CAP_BPF"):
        as_nobody(probe)


async def test_a_relay_that_is_required_and_cannot_be_had_is_an_error_that_says_why():
    reactor = Reactor()
    with pytest.raises(RelayError, match=r'kernel_relay is "required", but .*CAP_BPF'):
        as_nobody(lambda: open_relay("required", reactor, pairs_max=1))
    reactor.close()


async def test_a_relay_that_cannot_be_had_is_done_without_and_the_reason_kept():
    reactor = Reactor()
    relay, choice = as_nobody(lambda: open_relay("auto", reactor, pairs_max=1))
    assert relay is None
    assert not choice.active
    assert "CAP_BPF" in choice.reason
    reactor.close()


async def test_a_relay_that_is_switched_off_is_not_even_tried():
    reactor = Reactor()
    relay, choice = open_relay("off", reactor, pairs_max=1)
    assert relay is None
    assert choice.reason == "switched off in the configuration"
    reactor.close()


async def test_a_process_without_clients_tries_the_relay_and_makes_none():
    need_kernel_relay()
    reactor = Reactor()
    relay, choice = open_relay("required", reactor, pairs_max=0)
    assert relay is None
    assert choice.active
    reactor.close()


async def test_tunnels_beyond_the_limit_stay_in_user_space_and_places_are_used_again(tmp_path):
    need_kernel_relay()
    async with scripted(tmp_path, relay="required", listener="max_connections = 2") as rig:
        relay = rig.plane.tunnels.relays.own
        assert relay is not None
        relay._pairs_max = 1
        first, _ = await tunnel(rig)
        assert relay.seated == 1
        second, backend = await tunnel(rig)
        assert (relay.seated, len(rig.plane.tunnels)) == (1, 2)
        await second.say(b"by user space")
        await backend.hear(b"by user space")
        first.reset()
        await eventually(lambda: relay.seated == 0)
        _, backend = await tunnel(rig)
        assert relay.seated == 1
        await backend.say(b"by the kernel")


async def test_what_is_no_plain_socket_stays_in_user_space():
    need_kernel_relay()

    class Sealed(socket.socket):
        """A channel that does something with the bytes."""

    reactor = Reactor()
    relay = KernelRelay(reactor, RelayProgram(4))
    pairs = [tcp_pair() for _ in range(2)]
    plain = before_its_tunnel(reactor, pairs[0][1])
    inner = pairs[1][1]
    sealed = before_its_tunnel(
        reactor, Sealed(inner.family, inner.type, inner.proto, inner.detach())
    )
    assert relay.pair(plain, sealed) is None
    assert relay.pair(sealed, plain) is None
    assert relay.seated == 0
    relay.close()
    reactor.close()
    for stream in (plain, sealed):
        stream._sock.close()
    for outer, _ in pairs:
        outer.close()


async def test_a_tunnel_in_the_kernel_wakes_nobody_for_its_messages(tmp_path):
    need_kernel_relay()
    async with scripted(tmp_path, relay="required") as rig:
        client, backend = await tunnel(rig)
        down, up = next(iter(rig.plane.tunnels)).downstream, next(iter(rig.plane.tunnels)).upstream
        woken = []
        for end in (down, up):
            handler = rig.plane._reactor._handlers[end.fd]
            rig.plane._reactor.hand_over(
                end.fd, lambda event, handler=handler: (woken.append(event), handler(event))
            )
        for number in range(50):
            message = b"message %d" % number
            await client.say(message)
            await backend.hear(message)
            await backend.say(message)
            await client.hear(message)
        assert woken == []
        await trio.lowlevel.checkpoint()


async def test_a_tunnel_goes_into_the_kernel_with_its_messages_and_not_with_bulk():
    need_kernel_relay()
    async with running(relay=MESSAGES_MIN) as rig:
        assert rig.relay is not None
        client, backend = rig.tunnel()
        for number in range(MESSAGES_MIN):
            assert rig.relay.seated == 0, "it would need no place if it stayed silent"
            await backend.send_all(b"message %d" % number)
            assert await client.receive_some() == b"message %d" % number
        await eventually(lambda: rig.relay.seated == 1)
        client, backend = rig.tunnel()
        payload = bytes(range(256)) * (1 << 15)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(backend.send_all, payload)
            received = bytearray()
            while len(received) < len(payload):
                await trio.sleep(0.001)  # More is waiting for it than a message.
                received += await client.receive_some(1 << 20)
        assert received == payload
        assert rig.relay.seated == 1


async def test_a_reader_that_stalls_has_no_more_than_its_credit_waiting_in_the_kernel():
    need_kernel_relay()
    payload = random.Random(5).randbytes(1 << 20)
    async with running(relay=0) as rig:
        client, backend = rig.tunnel()
        end = rig.tunnels[0].downstream
        assert isinstance(end, RelayedEnd)
        assert end.state == CARRIED
        sent = 0
        with trio.move_on_after(0.5):
            while True:
                await client.send_all(payload)
                sent += len(payload)
        redirected = end._rows(REDIRECTED)
        acked, _ = end.peer.acked_bytes()
        assert 0 < redirected - acked <= CREDIT_BYTES_MAX + PIECE_BYTES_MAX
        assert end.state != CARRIED, "user space holds the sender back"
        received = hashlib.sha256()
        for _ in range(sent // len(payload)):
            left = len(payload)
            while left:
                piece = await backend.receive_some(left)
                received.update(piece)
                left -= len(piece)
        expected = hashlib.sha256()
        for _ in range(sent // len(payload)):
            expected.update(payload)
        assert received.digest() == expected.digest()
