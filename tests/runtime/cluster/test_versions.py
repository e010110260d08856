"""A member of the version before among nodes of today, over real sockets."""

import socket
from collections import Counter

import trio
from structlog.testing import capture_logs

from meshlb.cluster.greeting import greet
from meshlb.model import Address, BackendName, BackendState, BootId, NodeName, PoolName
from meshlb.wire.handshake import Established, Identity, Initiator, RefusedByPeer
from meshlb.wire.messages import (
    Ack,
    BackendOverride,
    DeltaAck,
    MemberState,
    MemberUpdate,
    Message,
    PullRequest,
    PushPull,
)
from meshlb.wire.refusal import Refusal
from meshlb.wire.seal import DatagramOpener, DatagramSealer, Keyring, cluster_label
from meshlb.wire.versions import FIRST, NO_FEATURES, VERSION_MAX, Dialect, Versions
from tests.fakes import version_1
from tests.runtime.cluster.kit import SECRET, Node, cluster, until

OLD = NodeName("old")
BOOT = BootId(77)
SHOP = cluster_label("shop")


class OldMember:
    """Speaks version 1 by its own codec, keeps itself alive, and counts what it is told."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.port = trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sealer = DatagramSealer(Keyring((SECRET,)), label=SHOP, sender=OLD, boot_id=BOOT)
        self.opener = DatagramOpener(Keyring((SECRET,)), label=SHOP)
        self.heard: Counter[str] = Counter()
        self.pings = 0
        self.established: Established | None = None

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        await self.port.bind(("127.0.0.1", 0))
        self.address = Address("127.0.0.1", self.port.getsockname()[1])
        me = Identity(OLD, BOOT, self.address)
        there = self.node.address
        stream = await trio.open_tcp_stream(there.host, there.port)
        initiator = Initiator(
            me, keyring=Keyring((SECRET,)), label=SHOP, ephemeral=b"e" * 32, versions=FIRST
        )
        greeting = await greet(stream, initiator, lambda peer: None)
        assert isinstance(greeting, Established)
        self.established, self.stream = greeting, stream
        self.trust(greeting.peer.name, greeting.peer.boot_id)
        update = MemberUpdate(OLD, self.address, BOOT, 1, MemberState.ALIVE, False, OLD)
        await self.say(PushPull((update,), False), DeltaAck(BootId(0), 0), PullRequest(1))
        task_status.started()
        with self.port:
            async with stream, trio.open_nursery() as nursery:
                nursery.start_soon(self._read)
                nursery.start_soon(self._receive)
                nursery.start_soon(self._breathe)

    def trust(self, name: NodeName, boot_id: BootId) -> None:
        self.opener.introduce(name, boot_id)
        self.opener.prove(name, boot_id, counter=0)

    async def say(self, *messages: Message) -> None:
        assert self.established is not None
        frame = self.established.sealer.seal(version_1.encode(messages))
        await self.stream.send_all(frame)

    async def _breathe(self) -> None:
        while True:
            await trio.sleep(1.0)
            await self.say()

    async def _read(self) -> None:
        assert self.established is not None
        opener, chunk = self.established.opener, self.established.rest
        while True:
            for plain in opener.receive(chunk):
                for name, fields in version_1.decode(plain):
                    self.heard[name] += 1
                    for member in fields.get("members", ()):
                        self.trust(member["name"], member["boot_id"])
            chunk = bytes(await self.stream.receive_some())

    async def _receive(self) -> None:
        """Answers each ping, by datagram; it knows of no challenge."""
        while True:
            datagram, source = await self.port.recvfrom(2_000)
            for name, fields in version_1.decode(self.opener.open(datagram).plain):
                self.heard[name] += 1
                if name == "Ping":
                    self.pings += 1
                    plain = version_1.encode([Ack(fields["seq"])])
                    await self.port.sendto(self.sealer.seal(plain), source)


async def test_a_member_of_version_1_takes_part_and_hears_nothing_that_it_does_not_know() -> None:
    async with cluster("a", "b") as ((a, b), nursery):
        old = OldMember(a)
        await nursery.start(old.run)
        assert old.established is not None
        assert old.established.dialect == Dialect(1)
        await until(lambda: a.sees_alive("a", "b", "old") and b.sees_alive("a", "b", "old"))
        await until(lambda: old.heard["PullChunk"] > 0 and old.heard["Digest"] > 0)
        await until(lambda: old.pings > 3)
        assert set(a.mesh.counters.datagrams_refused) <= {"unproven"}, "b was challenged"
        versions = {member.name: member.versions for member in a.mesh.members()}
        assert versions["old"] is None
        assert versions["b"] is not None
        nursery.cancel_scope.cancel()


async def test_a_word_reaches_a_member_of_version_1_which_cannot_acknowledge_it() -> None:
    async with cluster("a", "b") as ((a, b), nursery):
        old = OldMember(a)
        await nursery.start(old.run)
        await until(lambda: a.sees_alive("a", "b", "old"))
        receipt = await a.mesh.set_backend_state(
            PoolName("app"), BackendName("s1"), BackendState.DRAINING
        )
        assert (receipt.acknowledged, receipt.waiting_for) == (("b",), ("old",))
        await until(lambda: old.heard["BackendOverride"] > 0)
        assert [word.backend for word in b.words] == ["s1"]
        await old.say(
            BackendOverride(PoolName("app"), BackendName("s2"), BackendState.UP, 2**44, OLD)
        )
        await until(lambda: [word.backend for word in b.words] == ["s1", "s2"])
        nursery.cancel_scope.cancel()


async def test_without_a_common_version_a_node_is_refused_and_the_log_says_what_it_speaks() -> None:
    later = Versions(VERSION_MAX + 1, VERSION_MAX + 2, NO_FEATURES)
    me = Identity(OLD, BOOT, Address("127.0.0.1", 9))
    async with cluster("a") as ((a,), _):
        stream = await trio.open_tcp_stream(a.address.host, a.address.port)
        initiator = Initiator(
            me, keyring=Keyring((SECRET,)), label=SHOP, ephemeral=b"e" * 32, versions=later
        )
        with capture_logs() as lines:
            async with stream:
                greeting = await greet(stream, initiator, lambda peer: None)
            assert greeting == RefusedByPeer(Refusal.OTHER_VERSION)
            await until(lambda: len(lines) > 0)
        (line,) = lines
        assert (line["reason"], line["claimed_name"]) == ("other-version", "old")
        assert line["detail"] == "it speaks versions 3 to 4, not versions 1 to 2"
        assert a.sees_alive("a")
