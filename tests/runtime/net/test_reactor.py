"""The reactor itself: order, stale events, time, and callbacks that fail."""

import socket
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import trio
import trio.lowlevel
import trio.testing
from structlog.testing import capture_logs

from meshlb.net.reactor import RATION_EVENTS_MAX, READ, Reactor

TEST_S_MAX = 30


@asynccontextmanager
async def running() -> AsyncIterator[Reactor]:
    reactor = Reactor()
    with trio.fail_after(TEST_S_MAX):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(reactor.run)
            await trio.testing.wait_all_tasks_blocked()
            yield reactor
            nursery.cancel_scope.cancel()
    reactor.close()


class Party:
    """A registered socket, its partner, and what happened to it."""

    def __init__(self, reactor: Reactor, act: Callable[["Party"], None] | None = None) -> None:
        self.reactor = reactor
        self.partner, self.sock = socket.socketpair()
        self.sock.setblocking(False)
        self.fd = self.sock.fileno()
        self.events = 0
        self.asked = 0
        self.aborted = False
        self._act = act
        reactor.register(self.fd, self.on_event)

    def on_event(self, event: int) -> None:
        self.events += 1
        if self._act is not None:
            self._act(self)
        self.sock.recv(100)

    def check_deadline(self, now: float) -> float | None:
        self.asked += 1
        if self._act is not None:
            self._act(self)
        return None

    def abort(self) -> None:
        self.aborted = True
        self.close()

    def close(self) -> None:
        self.reactor.unregister(self.fd)
        self.sock.close()
        self.partner.close()


def fail(party: Party) -> None:
    raise RuntimeError("a bug")


async def blocked() -> None:
    await trio.testing.wait_all_tasks_blocked()


async def test_a_callback_that_raises_costs_its_owner_and_nobody_else():
    async with running() as reactor:
        bad, good = Party(reactor, fail), Party(reactor)
        with capture_logs() as logs:
            bad.partner.send(b"x")
            good.partner.send(b"x")
            await blocked()
        assert bad.aborted
        assert (good.events, good.aborted) == (1, False)
        assert len(reactor) == 1
        assert [line["event"] for line in logs] == ["a connection failed"]
        good.close()


async def test_a_time_out_that_raises_costs_its_owner_and_nobody_else():
    async with running() as reactor:
        bad, good = Party(reactor, fail), Party(reactor)
        with capture_logs():
            reactor.schedule(bad, trio.current_time())
            reactor.schedule(good, trio.current_time())
            await trio.sleep(0.25)
        assert bad.aborted
        assert good.asked == 1
        good.close()


async def test_of_rationed_descriptors_a_batch_serves_some_and_each_comes_in_turn():
    async with running() as reactor:
        parties = [Party(reactor) for _ in range(3 * RATION_EVENTS_MAX)]
        batches: Counter[int] = Counter()
        served = {party.fd: 0 for party in parties}
        ahead: set[int] = set()

        def serve(party: Party) -> None:
            batches[reactor.batch] += 1
            served[party.fd] += 1
            ahead.add(max(served.values()) - min(served.values()))
            party.sock.recv(1)

        for party in parties:
            reactor.register(party.fd, lambda _, party=party: serve(party), rationed=True)
            party.partner.send(b"abc")
        while min(served.values()) < 3:
            await trio.lowlevel.checkpoint()
        assert max(ahead) == 1
        assert max(batches.values()) == RATION_EVENTS_MAX
        assert len(reactor) == len(parties)
        for party in parties:
            party.close()
        assert len(reactor) == 0


async def test_a_rationed_descriptor_that_fails_costs_its_owner_and_comes_out_of_the_ration():
    async with running() as reactor:
        bad, good = Party(reactor, fail), Party(reactor)
        for party in (bad, good):
            reactor.register(party.fd, party.on_event, rationed=True)
        with capture_logs():
            bad.partner.send(b"x")
            good.partner.send(b"x")
            await blocked()
        assert bad.aborted
        assert (good.events, good.aborted) == (1, False)
        reactor.register(good.fd, good.on_event)
        good.partner.send(b"x")
        await blocked()
        assert good.events == 2
        reactor.watch(good.fd, 0)
        good.partner.send(b"x")
        await blocked()
        assert good.events == 2
        good.close()


async def test_an_owner_that_cannot_even_be_ended_costs_nobody_else():
    async with running() as reactor:
        bad, good = Party(reactor, fail), Party(reactor)
        bad.reactor = None
        with capture_logs():
            bad.partner.send(b"x")
            good.partner.send(b"x")
            await blocked()
        assert good.events == 1
        assert len(reactor) == 1
        bad.sock.close()
        bad.partner.close()
        good.close()


async def test_an_event_of_a_closed_socket_does_not_reach_the_one_that_reuses_its_number():
    async with running() as reactor:
        heirs = []

        def replace(party: Party) -> None:
            other = second if party is first else first
            if heirs or other.events:
                return
            other.close()
            heirs.append(Party(reactor))
            assert heirs[0].fd == other.fd

        first, second = Party(reactor, replace), Party(reactor, replace)
        first.partner.send(b"x")
        second.partner.send(b"x")
        await blocked()
        assert heirs[0].events == 0
        heirs[0].partner.send(b"x")
        await blocked()
        assert heirs[0].events == 1
        for party in (first, second, *heirs):
            party.close()


async def test_a_time_out_that_is_set_while_the_reactor_sleeps_is_kept():
    async with running() as reactor:
        party = Party(reactor)
        await blocked()
        reactor.schedule(party, trio.current_time() + 0.05)
        await trio.sleep(0.3)
        assert party.asked == 1
        party.close()


async def test_what_came_in_time_counts_before_a_time_out_that_is_looked_at_late():
    async with running() as reactor:
        order = []
        party = Party(reactor, lambda party: order.append((party.events, party.asked)))
        reactor.schedule(party, trio.current_time())
        await trio.lowlevel.checkpoint()
        party.partner.send(b"x")
        deadline = trio.current_time() + 0.2
        while trio.current_time() < deadline:  # The whole process stands still.
            pass
        await blocked()
        assert order == [(1, 0), (1, 1)]
        party.close()


async def test_a_flood_of_events_leaves_turns_for_other_tasks():
    async with running() as reactor:
        ready, other = socket.socketpair()
        calls = 0

        def never_reads(event: int) -> None:
            nonlocal calls
            calls += 1

        other.send(b"x")
        reactor.register(ready.fileno(), never_reads, READ)
        for _ in range(50):
            await trio.lowlevel.checkpoint()
        assert calls > 0
        reactor.unregister(ready.fileno())
        ready.close()
        other.close()


async def test_what_a_batch_has_led_to_is_done_once_behind_all_its_events():
    async with running() as reactor:
        diary = []
        is_coming = False

        def act(party: Party) -> None:
            nonlocal is_coming
            diary.append("event")
            if not is_coming:
                is_coming = True
                reactor.behind(lambda: diary.append("behind"))

        parties = [Party(reactor, act) for _ in range(3)]
        for party in parties:
            party.partner.send(b"x")
        await blocked()
        assert diary == ["event", "event", "event", "behind"]
        for party in parties:
            party.close()


async def test_a_sleeping_reactor_wakes_for_what_is_to_be_done_behind():
    async with running() as reactor:
        diary = []

        def first() -> None:
            diary.append("first")
            reactor.behind(lambda: diary.append("second"))

        reactor.behind(first)
        await blocked()
        assert diary == ["first", "second"]


async def test_what_is_done_behind_in_many_steps_waits_for_nobody_between_them():
    """To wait for events before each step would outlast the limit of `running` many times."""
    async with running() as reactor:
        steps_left, done = 10_000, trio.Event()

        def step() -> None:
            nonlocal steps_left
            steps_left -= 1
            if steps_left:
                reactor.behind(step)
            else:
                done.set()

        reactor.behind(step)
        await done.wait()


async def test_events_that_come_often_cost_no_pass_of_the_loop_of_trio():
    class Passes(trio.abc.Instrument):
        count = 0

        def before_io_wait(self, timeout: float) -> None:
            self.count += 1

    async with running() as reactor:
        left, right = Party(reactor), Party(reactor)
        left_over = 100

        def answer(party: Party) -> None:
            nonlocal left_over
            if left_over:
                left_over -= 1
                other = right if party is left else left
                other.partner.send(b"x")

        left._act = right._act = answer
        passes = Passes()
        trio.lowlevel.add_instrument(passes)
        left.partner.send(b"x")
        await blocked()
        trio.lowlevel.remove_instrument(passes)
        assert left.events + right.events == 101
        assert passes.count < 50
        left.close()
        right.close()
