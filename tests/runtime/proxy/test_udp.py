"""UDP listeners: flows by source, answers from where they are expected, limits, lost backends."""

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from structlog.testing import capture_logs

from meshlb.config.loader import parse
from meshlb.model import Address, BackendName, BackendState, PoolName
from meshlb.net.datagrams import DATAGRAM_BYTES_MAX
from meshlb.net.reactor import Reactor
from meshlb.proxy.backend import Backend
from meshlb.proxy.plane import DataPlane
from meshlb.proxy.udp_flow import WAITING_MAX
from meshlb.proxy.udp_frontend import WAITING_BYTES_MAX, UdpFrontend
from tests.runtime.proxy.rig import COOKIE_SECRET, KEY_SECRET, TEST_S_MAX, DictTable, eventually

BY_ADDRESS = 'sticky = [{ by = "source-ip" }]'
LARGEST = 65_507


class Port:
    """A UDP socket that the test plays: a client, or a backend."""

    def __init__(self, host: str = "127.0.0.1", port: int = 0) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_DGRAM)
        sock.bind((host, port))
        self.sock = trio.socket.from_stdlib_socket(sock)
        self.port: int = sock.getsockname()[1]
        self.peer: object = None

    async def hear(self) -> bytes:
        """The next datagram that is no probe; whoever sent it is `peer` then."""
        while True:
            heard, self.peer = await self.sock.recvfrom(DATAGRAM_BYTES_MAX)
            if heard:
                return heard

    async def answer(self, datagram: bytes) -> None:
        await self.sock.sendto(datagram, self.peer)

    async def nothing(self) -> None:
        with trio.move_on_after(0.05):
            heard = await self.hear()
            raise AssertionError(f"heard {heard!r}")

    def close(self) -> None:
        self.sock.close()


class Rig:
    """A running data plane with one UDP listener."""

    def __init__(self, plane: DataPlane, table: DictTable, ports: dict[str, Port]) -> None:
        self.plane = plane
        self.table = table
        self.backends = ports
        self.clients: list[Port] = []

    @property
    def address(self) -> Address:
        return self.plane.addresses["dns"]

    @property
    def flows(self) -> int:
        return self.plane.counters.listeners["dns"].connections

    @property
    def dropped(self) -> dict[str, int]:
        return self.plane.counters.datagrams_dropped

    def backend(self, name: str) -> Backend:
        return self.plane.pools[PoolName("app")].backends[BackendName(name)]

    def client(self, host: str = "127.0.0.1") -> Port:
        client = Port(host)
        self.clients.append(client)
        return client

    async def send(self, client: Port, datagram: bytes, host: str = "") -> None:
        await client.sock.sendto(datagram, (host or self.address.host, self.address.port))

    async def exchange(self, client: Port, name: str) -> None:
        """A question that reaches this backend, and an answer that comes back."""
        await self.send(client, b"question")
        backend = self.backends[name]
        assert await backend.hear() == b"question"
        await backend.answer(b"answer of " + name.encode())
        assert await client.hear() == b"answer of " + name.encode()


@asynccontextmanager
async def running(
    *names: str, bind: str = "127.0.0.1:0", listener: str = "", pool: str = ""
) -> AsyncIterator[Rig]:
    host = "::1" if bind.startswith("[") else "127.0.0.1"
    ports = {name: Port(host) for name in names or ("s1",)}
    shown = f"[{host}]" if ":" in host else host
    backends = "\n".join(
        f'[[pool.app.backend]]\nname = "{name}"\naddress = "{shown}:{port.port}"'
        for name, port in ports.items()
    )
    settings = parse(
        f'[[listener]]\nname = "dns"\nbind = "{bind}"\nprotocol = "udp"\npool = "app"\n{listener}\n'
        f"[pool.app]\n{pool}\n"
        '[pool.app.health]\ninterval = "50ms"\ntimeout = "20ms"\nprotocol = "udp"\nfall = 2\n'
        + backends,
        directory=Path("/nowhere"),
    )
    table, reactor = DictTable(), Reactor()
    plane = DataPlane(
        settings,
        table,
        reactor=reactor,
        table_now=table.now,
        cookie_secrets=(COOKIE_SECRET,),
        key_secret=KEY_SECRET,
    )
    may_listen = trio.Event()
    may_listen.set()

    async def run(*, task_status: trio.TaskStatus[None]) -> None:
        await plane.run(may_listen=may_listen, task_status=task_status)

    rig = Rig(plane, table, ports)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(reactor.run)
            await nursery.start(run)
            await plane.accepting.wait()
            with trio.fail_after(TEST_S_MAX):
                yield rig
            nursery.cancel_scope.cancel()
        reactor.close()
        assert sum(rig.backend(name).connections for name in ports) == 0
    finally:
        for port in [*ports.values(), *rig.clients]:
            port.close()


@pytest.mark.parametrize("bind", ["127.0.0.1:0", "[::1]:0", "0.0.0.0:0", "[::]:0"])
async def test_datagrams_of_any_size_go_both_ways_and_are_counted(bind):
    async with running(bind=bind) as rig:
        host = "::1" if bind.startswith("[") else "127.0.0.1"
        client = rig.client(host)
        for size in (1, 1_400, LARGEST if host == "127.0.0.1" else 60_000):
            await rig.send(client, b"q" * size, host)
            assert await rig.backends["s1"].hear() == b"q" * size
            await rig.backends["s1"].answer(b"a" * size)
            assert await client.hear() == b"a" * size
            assert client.peer[:2] == (host, rig.address.port)
        assert rig.flows == 1
        assert rig.plane.counters.relayed_up_bytes == rig.plane.counters.relayed_down_bytes > 1_400


async def test_a_wildcard_listener_answers_from_the_address_that_was_asked():
    async with running(bind="0.0.0.0:0") as rig:
        client = rig.client()
        for host in ("127.0.0.1", "127.0.0.55", "127.0.0.56"):
            await rig.send(client, b"question", host)
            await rig.backends["s1"].hear()
            await rig.backends["s1"].answer(b"answer")
            await client.hear()
            assert client.peer[0] == host
        assert rig.flows == 3


async def test_each_source_is_a_flow_of_its_own():
    async with running("s1", "s2") as rig:
        one, other = rig.client(), rig.client()
        for _ in range(2):
            await rig.exchange(one, "s1")
            await rig.exchange(other, "s2")
        assert rig.flows == 2
        await one.nothing()


async def test_flows_of_one_address_are_pinned_to_one_backend_by_one_claim():
    async with running("s1", "s2", pool=BY_ADDRESS) as rig:
        for _ in range(3):
            await rig.exchange(rig.client("127.0.0.9"), "s1")
        await rig.exchange(rig.client("127.0.0.10"), "s2")
        assert len(rig.table.claims) == 2


async def test_what_comes_while_the_cluster_decides_waits_in_order_up_to_a_limit():
    async with running(pool=BY_ADDRESS) as rig:
        rig.table.answers = trio.Event()
        client = rig.client()
        for number in range(WAITING_MAX + 5):
            await rig.send(client, b"%d" % number)
        await eventually(lambda: rig.dropped.get("waiting") == 5)
        assert len(rig.table.claims) == 1
        rig.table.answers.set()
        for number in range(WAITING_MAX):
            assert await rig.backends["s1"].hear() == b"%d" % number


async def test_what_waits_is_bounded_over_all_flows():
    async with running(pool=BY_ADDRESS) as rig:
        rig.table.answers = trio.Event()
        frontend = rig.plane._frontends[0]
        for number in range(6):
            client = rig.client(f"127.0.0.{number + 2}")
            for count in range(WAITING_MAX):
                await rig.send(client, bytes(60_000))
                sent = (number * WAITING_MAX + count + 1) * 60_000
                await eventually(lambda sent=sent: taken(frontend) == sent)
        assert WAITING_BYTES_MAX - 60_000 < frontend._waiting_bytes <= WAITING_BYTES_MAX
        rig.plane._frontends[0].close_all()
        assert frontend._waiting_bytes == 0


def taken(frontend: UdpFrontend) -> int:
    """Bytes that wait, and those of datagrams of 60,000 that were dropped."""
    dropped = frontend.counters.datagrams_dropped.get("waiting", 0)
    return frontend._waiting_bytes + dropped * 60_000


async def test_a_new_source_beyond_the_limit_takes_the_place_of_the_one_silent_for_longest():
    async with running(listener="max_connections = 2") as rig:
        first, second, third = (rig.client() for _ in range(3))
        await rig.exchange(first, "s1")
        await rig.exchange(second, "s1")
        await rig.exchange(first, "s1")
        of_first = rig.backends["s1"].peer
        await rig.exchange(third, "s1")
        assert (rig.flows, rig.dropped) == (2, {"flow-evicted": 1})
        await rig.exchange(first, "s1")
        assert rig.backends["s1"].peer == of_first, "the flow in use was the one to go"
        await rig.exchange(second, "s1")


async def test_a_silent_flow_ends_and_a_later_datagram_begins_another(unhurried):
    async with running(listener='timeouts = { idle = "100ms" }') as rig:
        client = rig.client()
        await rig.exchange(client, "s1")
        before = rig.backends["s1"].peer
        await eventually(lambda: rig.flows == 0)
        assert (rig.flows, rig.backend("s1").connections) == (0, 0)
        await rig.exchange(client, "s1")
        assert rig.backends["s1"].peer != before


@pytest.mark.parametrize("pool", ["", BY_ADDRESS])
async def test_a_backend_whose_port_is_closed_loses_its_flows_to_another(pool):
    async with running("s1", "s2", pool=pool) as rig:
        client = rig.client()
        await rig.exchange(client, "s1")
        rig.backends["s1"].close()
        with capture_logs():
            heard: list[bytes] = []

            async def listen() -> None:
                heard.append(await rig.backends["s2"].hear())

            async with trio.open_nursery() as nursery:
                nursery.start_soon(listen)
                while not heard:  # What the dead backend was sent is lost, as UDP is.
                    await rig.send(client, b"again")
                    await trio.sleep(0.01)
            await rig.backends["s2"].answer(b"moved")
            assert await client.hear() == b"moved"
        assert rig.flows == 1


async def test_flows_leave_a_backend_that_is_taken_out_of_service():
    async with running("s1", "s2", pool=BY_ADDRESS) as rig:
        client = rig.client()
        await rig.exchange(client, "s1")
        rig.backend("s1").order(BackendState.DRAINING)
        await rig.exchange(client, "s1")
        rig.backend("s1").order(BackendState.MAINTENANCE)
        await rig.exchange(client, "s2")
        assert rig.backend("s1").connections == 0


async def test_without_any_backend_datagrams_are_dropped_and_counted():
    async with running() as rig:
        rig.backend("s1").order(BackendState.MAINTENANCE)
        client = rig.client()
        for _ in range(3):
            await rig.send(client, b"question")
        await eventually(lambda: rig.dropped.get("no-backend") == 3)
        assert (rig.flows, rig.dropped) == (0, {"no-backend": 3})
        rig.backend("s1").order(BackendState.UP)
        await rig.exchange(client, "s1")


async def test_a_probe_finds_a_closed_port_and_takes_silence_for_health():
    async with running("s1", "s2") as rig:
        with capture_logs():
            rig.backends["s1"].close()
            await eventually(lambda: rig.backend("s1").state is BackendState.DOWN)
            assert "refused" in rig.backend("s1").reason
            assert rig.backend("s2").state is BackendState.UP
            await rig.exchange(rig.client(), "s2")
            rig.backends["s1"] = Port(port=rig.backends["s1"].port)
            await eventually(lambda: rig.backend("s1").state is BackendState.UP)


async def test_a_node_that_leaves_lets_flows_fall_silent_and_begins_none():
    async with running() as rig:
        client = rig.client()
        await rig.exchange(client, "s1")
        async with trio.open_nursery() as nursery:

            async def drain() -> None:
                await rig.plane.drain(timeout_s=5)

            nursery.start_soon(drain)
            await eventually(lambda: rig.plane.draining)
            await rig.exchange(client, "s1")
            stranger = rig.client()
            await rig.send(stranger, b"too late")
            await eventually(lambda: rig.dropped.get("draining") == 1)
        assert (rig.flows, rig.dropped) == (0, {"draining": 1})


async def test_a_host_name_is_looked_up_for_each_flow():
    async with running() as rig:
        rig.backend("s1").address = Address("localhost", rig.backends["s1"].port)
        await rig.exchange(rig.client(), "s1")


async def test_a_flow_that_strikes_a_bug_ends_and_the_others_go_on():
    async with running() as rig:
        well, ill = rig.client(), rig.client()
        await rig.exchange(well, "s1")
        frontend = rig.plane._frontends[0]
        frontend.router.route, route = (lambda *_: 1 / 0), frontend.router.route
        with capture_logs() as logs:
            await rig.send(ill, b"question")
            await eventually(lambda: bool(logs))
        assert [line["event"] for line in logs] == ["a connection failed"]
        frontend.router.route = route
        await rig.exchange(well, "s1")
        await rig.exchange(ill, "s1")
