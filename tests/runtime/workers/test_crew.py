"""A member in this process and its workers in theirs: who serves, who dies, who is told what."""

import contextlib
import os
import signal
import socket
from collections import Counter
from pathlib import Path

import pytest
import trio

from meshlb.model import BackendState
from meshlb.workers import crew as crew_module
from meshlb.workers import orders
from meshlb.workers import post as post_module
from tests.runtime.proxy.messages import get, ok
from tests.runtime.proxy.wire import Origin, Wire
from tests.runtime.workers.team import (
    Team,
    eventually,
    free_port,
    refused,
    working,
    write_config,
)

BY_HEADER = '[[pool.app.sticky]]\nby = "header"\nname = "X-Key"'


async def answer(team: Team, nursery: trio.Nursery) -> None:
    """Let all backends answer with their names."""
    for name, origin in team.origins.items():
        nursery.start_soon(serve, origin, name.encode())


async def serve(origin: Origin, name: bytes) -> None:
    async def converse(wire: Wire) -> None:
        heard = b""
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while piece := await wire.stream.receive_some():
                heard += piece
                while b"\r\n\r\n" in heard:
                    heard = heard.partition(b"\r\n\r\n")[2]
                    await wire.say(ok(name))

    async with trio.open_nursery() as nursery:
        with contextlib.suppress(trio.ClosedResourceError):
            while True:
                nursery.start_soon(converse, await origin.accept(talks=False))


async def ask(client: Wire, *fields: bytes) -> str:
    await client.say(get(b"/", *fields))
    return (await client.message()).body.decode()


async def clients_at_every_worker(team: Team) -> list[Wire]:
    """Clients that have been answered, some of them at each worker."""
    clients: list[Wire] = []
    while not clients or any(worker.connections == 0 for worker in team.workers):
        batch = [await team.exchange() for _ in range(4)]
        for client in batch:
            assert (await client.message()).status == 200
        clients += batch
        await team.settle(len(clients))
    return clients


async def test_every_worker_serves_and_all_know_the_pins_of_all(tmp_path: Path, nursery) -> None:
    async with working(tmp_path, "s1", "s2", sticky=BY_HEADER) as team:
        await answer(team, nursery)
        clients = await clients_at_every_worker(team)
        assert os.getpid() not in team.pids
        for number in range(20):
            field = b"X-Key: %d" % number
            assert len({await ask(client, field) for client in clients[:6]}) == 1
        assert Counter(pin.backend for pin in await team.view.pins(None, None, 100)) == {
            "s1": 10,
            "s2": 10,
        }
        meters = team.view.meters()
        assert meters.pins_by_outcome["new"] == 20


async def test_a_client_s_address_is_known_to_every_worker(tmp_path, nursery) -> None:
    sticky = '[[pool.app.sticky]]\nby = "source-ip"'
    async with working(tmp_path, "s1", "s2", sticky=sticky) as team:
        await answer(team, nursery)
        waiting = [await team.exchange() for _ in range(30)]
        assert len({(await client.message()).body for client in waiting}) == 1


async def test_concurrent_first_requests_of_a_key_get_one_backend(tmp_path, nursery) -> None:
    async with working(tmp_path, "s1", "s2", sticky=BY_HEADER) as team:
        await answer(team, nursery)
        clients = await clients_at_every_worker(team)
        for number in range(50):
            for client in clients:
                await client.say(get(b"/", b"X-Key: %d" % number))
            backends = {(await client.message()).body for client in clients}
            assert len(backends) == 1


async def test_a_killed_worker_takes_its_own_clients_with_it_and_nobody_is_refused(
    tmp_path: Path, nursery
) -> None:
    async with working(tmp_path) as team:
        await answer(team, nursery)
        clients = await clients_at_every_worker(team)
        victim, survivor = team.workers
        assert victim.pid is not None
        os.kill(victim.pid, signal.SIGKILL)
        newcomers = 0
        while team.workers[0].pid in (victim.pid, None) or not team.workers[0].accepting:
            assert await ask(await team.client()) == "s1"
            newcomers += 1
            await trio.sleep(0.01)
        lost = 0
        for client in clients:
            try:
                assert await ask(client) == "s1"
            except (AssertionError, trio.BrokenResourceError, ConnectionResetError):
                lost += 1
        assert lost == victim.connections
        assert team.workers[0].restarts == 1
        assert (team.workers[1].pid, team.workers[1].restarts) == (survivor.pid, 0)
        assert newcomers > 0
        answered = len(clients) + newcomers
        await eventually(lambda: team.view.meters().requests["web", "2xx"] >= answered)


async def test_the_connections_of_a_backend_are_exact_and_end_with_their_worker(tmp_path) -> None:
    async with working(tmp_path) as team:
        backends, clients = [], []
        for number in range(1, 9):
            clients.append(await team.exchange())
            backend = await team.origins["s1"].accept()
            backends.append(backend)
            await backend.message()
            assert team.connections() == {"s1": number}
        await team.settle(8)
        victim = team.workers[0]
        assert victim.pid is not None
        os.kill(victim.pid, signal.SIGKILL)
        await eventually(lambda: team.connections() == {"s1": 8 - victim.connections})


async def test_least_connections_weighs_what_all_workers_have(tmp_path: Path) -> None:
    async with working(tmp_path, "s1", "s2", "s3", balance="least-connections") as team:
        for number in range(1, 13):
            before = sum(team.connections().values())
            await team.exchange()
            await eventually(lambda before=before: sum(team.connections().values()) > before)
            busy = sorted(team.connections().values())
            assert (sum(busy), busy[-1] - busy[0]) == (number, 0 if number % 3 == 0 else 1)


async def test_an_operator_s_word_holds_at_every_worker_once_it_is_acknowledged(
    tmp_path: Path, nursery
) -> None:
    async with working(tmp_path, "s1", "s2") as team:
        await answer(team, nursery)
        clients = await clients_at_every_worker(team)
        for state, others in ((BackendState.MAINTENANCE, {"s2"}), (BackendState.UP, {"s1", "s2"})):
            await team.order("s1", state)
            assert {await ask(client) for client in clients for _ in range(2)} == others


async def test_a_backend_that_a_worker_cannot_reach_is_probed_at_once(tmp_path, nursery) -> None:
    async with working(tmp_path, "s1", "s2") as team:  # The next probe is due in ten minutes.
        await answer(team, nursery)
        assert await ask(await team.client()) in ("s1", "s2")
        team.origins["s1"].close()
        fresh = [await team.exchange() for _ in range(12)]
        for client in fresh:
            assert (await client.message()).status == 200
        await eventually(lambda: "refused" in team.view.pools()[0].backends[0].reason)


async def test_a_reload_reaches_every_worker_and_keeps_its_clients(tmp_path, nursery) -> None:
    async with working(tmp_path, "s1", "s2") as team:
        await answer(team, nursery)
        clients = await clients_at_every_worker(team)
        pids, port = team.pids, free_port()
        only_s2 = {"s2": team.origins["s2"]}
        write_config(team.config, only_s2, workers=2, sticky="", balance="round-robin", port=port)
        old = team.address
        await team.view.reload()
        assert team.address.port == port
        assert await refused(old)
        assert {await ask(client) for client in clients} == {"s2"}
        assert await ask(await team.client()) == "s2"
        assert team.pids == pids


async def test_a_worker_that_starts_after_a_reload_has_the_new_settings(tmp_path, nursery) -> None:
    async with working(tmp_path, "s1", "s2", workers=1) as team:
        await answer(team, nursery)
        write_config(
            team.config, {"s2": team.origins["s2"]}, workers=1, sticky="", balance="round-robin"
        )
        await team.view.reload()
        await team.order("s2", BackendState.MAINTENANCE)
        (victim,) = team.pids
        assert victim is not None
        os.kill(victim, signal.SIGKILL)
        waiting = await team.exchange()  # At a socket that nobody accepts at just now.
        assert (await waiting.message()).status == 503
        await team.order("s2", BackendState.UP)
        assert {await ask(await team.client()) for _ in range(4)} == {"s2"}


async def test_a_worker_that_says_nothing_is_ended(tmp_path, monkeypatch, nursery) -> None:
    async with working(tmp_path, workers=1) as team:
        await answer(team, nursery)
        (victim,) = team.pids
        assert victim is not None
        os.kill(victim, signal.SIGSTOP)
        monkeypatch.setattr(post_module, "SILENT_TICKS_MAX", 3)
        assert await ask(await team.client()) == "s1"
        assert team.pids != [victim]


async def test_a_worker_that_ends_again_and_again_is_replaced_more_and_more_slowly() -> None:
    pauses = [crew_module._pause_s(strikes) for strikes in range(1, 12)]
    assert pauses[:4] == [0.0, 0.1, 0.2, 0.4]
    assert pauses == sorted(pauses)
    assert pauses[-1] == crew_module.PAUSE_S_MAX


async def test_a_drain_lets_requests_end_and_leaves_no_worker(tmp_path: Path) -> None:
    async with working(tmp_path) as team:
        pids = team.pids
        client = await team.exchange()
        idle = await team.client()
        backend = await team.origins["s1"].accept()
        await backend.message()
        await team.view.leave()
        assert await idle.stream.receive_some() == b""
        await backend.say(ok(b"in time"))
        assert (await client.message()).body == b"in time"
        address = team.address
        while not await refused(address):  # noqa: ASYNC110 - by other processes
            await trio.sleep(0.01)
    for pid in pids:
        assert pid is not None
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


async def test_a_drain_that_takes_too_long_is_cut_short(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(crew_module, "DRAIN_GRACE_FRACTION", 0.99)  # On a busy machine, too.
    async with working(tmp_path, shutdown="30s") as team:
        pids = team.pids
        client = await team.exchange()
        backend = await team.origins["s1"].accept()
        await backend.message()
        await team.view.leave()
        assert (await client.message()).status == 503
    for pid in pids:
        assert pid is not None
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


async def test_workers_that_were_paused_go_on_with_all_whom_they_have(tmp_path, nursery) -> None:
    async with working(tmp_path, sticky=BY_HEADER) as team:
        await answer(team, nursery)
        clients = await clients_at_every_worker(team)
        pids = team.pids
        await team.front.pause(timeout_s=1)
        waiting = await team.exchange()
        for client in clients:
            await client.say(get(b"/", b"X-Key: k"))
        await clients[0].silent()
        team.go_on()
        for client in [*clients, waiting]:
            assert (await client.message()).status == 200
        assert team.pids == pids


async def test_a_worker_that_ends_while_paused_is_replaced_afterwards(tmp_path, nursery) -> None:
    async with working(tmp_path) as team:
        await answer(team, nursery)
        await team.front.pause(timeout_s=1)
        victim, survivor = team.pids
        assert victim is not None
        os.kill(victim, signal.SIGKILL)
        await eventually(lambda: team.pids == [None, survivor])
        waiting = await team.exchange()
        await waiting.silent()
        assert team.pids == [None, survivor], "the store may be another process's now"
        team.go_on()
        await eventually(lambda: all(worker.accepting for worker in team.workers))
        assert (await waiting.message()).status == 200


async def test_a_worker_that_does_not_pause_in_time_is_ended(
    tmp_path: Path, nursery, monkeypatch
) -> None:
    monkeypatch.setattr(orders, "GRACE_S", 0.1)
    async with working(tmp_path) as team:
        await answer(team, nursery)
        victim, survivor = team.pids
        assert victim is not None
        os.kill(victim, signal.SIGSTOP)
        await team.front.pause(timeout_s=0.1)
        await eventually(lambda: team.pids == [None, survivor])
        team.go_on()
        assert await ask(await team.client()) == "s1"


async def test_connections_that_nobody_takes_stay_where_they_are(tmp_path, nursery) -> None:
    async with working(tmp_path) as team:
        await answer(team, nursery)
        clients = await clients_at_every_worker(team)
        await team.front.pause(timeout_s=1)
        lines = [socket.socketpair() for _ in range(3)]
        for _, theirs in lines:
            theirs.close()
        hindered = await team.front.give([ours for ours, _ in lines], timeout_s=5)
        assert len(hindered) == 2
        assert "nobody takes" in hindered[0]
        team.go_on()
        for client in clients:
            assert await ask(client) == "s1"
