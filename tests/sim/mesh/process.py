"""A node as a process on a host: the real parts that decide, over a simulated disk and network.

Owns: what the loops, the sockets and the store do in `meshlb.cluster` and `meshlb.store`; clocks;
standing still; being killed between two steps or in the middle of one. Must not know: who the
clients are, what faults are planned, what must hold.
"""

import math
from collections import deque
from collections.abc import Callable
from random import Random
from typing import Protocol

from meshlb.cluster.agent import Agent
from meshlb.cluster.counters import MeshCounters
from meshlb.cluster.drive import UPKEEP_S
from meshlb.cluster.overrides import Overrides
from meshlb.cluster.refusals import RefusalLog
from meshlb.cluster.table import MemberTable
from meshlb.cluster.turns import Turns
from meshlb.core.sticky.events import ClaimDone, ClaimStarted
from meshlb.core.sticky.log import ReplicationLog
from meshlb.core.sticky.pin import Pin, Proposal
from meshlb.core.swim.events import Effect as SwimEffect
from meshlb.core.swim.timings import Timings
from meshlb.model import Address, BootId, NodeName, SessionKey
from meshlb.wire.handshake import Identity
from meshlb.wire.messages import BackendOverride, Message
from tests.sim.mesh.disk import Disk, Store
from tests.sim.mesh.links import SimLinks, SimStreams
from tests.sim.mesh.ports import Datagram, Post, SimPort
from tests.sim.mesh.tongues import TODAY, Tongue
from tests.sim.mesh.watched import WatchedClaims, WatchedMembership
from tests.sim.mesh.world import World

TURN_LAG_S_MAX = 0.0002
"""How soon the loop of pins takes the turn that it was woken for."""

TIMER_LAG_S_MAX = 0.002
"""A timer fires up to this late, as it does in an event loop."""

FLUSH_S_MAX = 1.0
LEAVE_POLL_S = 0.05

INBOX_MAX = 20_000
"""What waits for a process that stands still; more is lost, as in the buffers of its kernel."""


class Killed(Exception):  # noqa: N818 - not an error, but the end of a process
    """The process was killed here."""


class Watcher(Protocol):
    """Sees what processes do, and says what must not be."""

    def wrote(self, process: "Process", key: SessionKey, old: Pin | None, new: Pin) -> None: ...
    def committed(self, process: "Process", records: dict[SessionKey, Pin]) -> None: ...
    def said(self, process: "Process", peer: NodeName, message: Message) -> None: ...
    def left(self, process: "Process", messages: tuple[Message, ...]) -> None: ...
    def heard(self, process: "Process", peer: NodeName, messages: tuple[Message, ...]) -> None: ...
    def accepted(self, process: "Process", datagram: Datagram) -> None: ...
    def linked(self, process: "Process", peer: NodeName) -> None: ...
    def marked(self, process: "Process", peer: NodeName, view_id: int) -> None: ...
    def membership(self, process: "Process", effects: list[SwimEffect]) -> None: ...
    def stepped(self, process: "Process") -> None: ...
    def killed(self, process: "Process") -> None: ...


class Process:
    """One start of a node."""

    def __init__(
        self,
        world: World,
        *,
        name: NodeName,
        address: Address,
        seeds: tuple[Address, ...],
        disk: Disk,
        timings: Timings,
        rng: Random,
        wall_skew_s: float,
        watcher: Watcher,
        post: Post,
        is_coded: bool,
        log_entries_max: int,
        tongue: Tongue = TODAY,
    ) -> None:
        self.world = world
        self.tongue = tongue
        self.name = name
        self.disk = disk
        self.watcher = watcher
        self.me = Identity(name, BootId(rng.getrandbits(64)), address)
        self.is_running = True
        self.is_paused = False
        self.started_at = world.now
        self._rng = rng
        self._mono_at_start = rng.random() * 1e6
        self._suspended_s = 0.0
        self._wall_at_start = 1_700_000_000.0 + world.now + wall_skew_s
        self._inbox: deque[Callable[[], None]] = deque(maxlen=INBOX_MAX)
        self._kill_in: int | None = None
        self.on_killed: Callable[[], None] = lambda: None
        self.on_resume: Callable[[], None] = lambda: None
        self._waiting: dict[int, Callable[[Pin], None]] = {}
        self._tokens = 0
        self._answers: list[tuple[Callable[[Pin], None], Pin]] = []
        self._has_answered = False
        self._turn_at = math.inf
        self._timer_at = math.inf
        self._deadline = math.inf
        self.store = Store(disk, self)
        self.streams = SimStreams(self, is_coded=is_coded)
        self.counters = MeshCounters()
        self.overrides = Overrides(name, disk)
        self.on_override: Callable[[BackendOverride], None] = lambda word: None
        self.port = SimPort(self, post, Random(rng.getrandbits(64)))
        self._wire(seeds, timings, log_entries_max)

    def _wire(self, seeds: tuple[Address, ...], timings: Timings, log_entries_max: int) -> None:
        self.log = ReplicationLog(self.me.boot_id, entries_max=log_entries_max)
        self.turns = Turns(
            name=self.name,
            log=self.log,
            store=self.store,
            bulk=self.store,
            streams=self.streams,
            counters=self.counters,
            now=self.table_now,
            on_work=self._work,
            on_done=self._done,
        )
        if (contact := self.disk.contact) is not None:
            self.turns.catching_up.came_back(contact, self.table_now())
        watched = self.turns.claims
        watched.__class__ = WatchedClaims
        assert isinstance(watched, WatchedClaims)
        watched.process = self
        self.table = MemberTable(self, _TableClock(self))  # type: ignore[arg-type]  # alike
        self.membership = WatchedMembership(
            name=self.name,
            address=self.me.address,
            boot_id=self.me.boot_id,
            incarnation=int(self._wall_at_start * 1000),
            timings=timings,
            rng=Random(self._rng.getrandbits(64)),
            now=self.now(),
            seeds=seeds,
            versions=self.tongue.versions,
        )
        self.membership.process = self
        self.agent = Agent(
            self.me,
            membership=self.membership,
            turns=self.turns,
            port=self.port,  # type: ignore[arg-type]  # alike
            overrides=self.overrides,
            on_override=lambda word: self.on_override(word),
            counters=self.counters,
            refusals=RefusalLog(self.counters),
            seeds=seeds,
            now=self.now,
        )

    def begin(self, links: SimLinks) -> None:
        """Take part from now on."""
        self.streams.links = links
        self.links = links
        self.agent.begin(links, self._hurry)  # type: ignore[arg-type]  # alike
        self.act(self._fire)
        self._upkeep()

    # Clocks ------------------------------------------------------------------------------

    def now(self) -> float:
        """Monotonic seconds of this process."""
        return self._mono_at_start + self.world.now - self._suspended_s

    def table_now(self) -> float:
        """Table time of this process: see `meshlb.cluster.clock`."""
        return self._wall_at_start + self.world.now - self.started_at - self._suspended_s

    def world_time(self, table_time: float) -> float:
        """When this process's table clock reads `table_time`, as things are."""
        return table_time - self._wall_at_start + self.started_at + self._suspended_s

    # Being alive -------------------------------------------------------------------------

    def act(self, call: Callable[[], None]) -> None:
        """Call it in this process: later if that stands still, never if it is gone."""
        if not self.is_running:
            return
        if self.is_paused:
            self._inbox.append(call)
            return
        try:
            call()
            self._hand_out()
            self.watcher.stepped(self)
            if self._has_answered:
                self._has_answered = False
                self.touch_off("answered")
        except Killed:
            self.watcher.killed(self)
            self.on_killed()

    def kill_in(self, points: int) -> None:
        """Kill this process at the so many-th point from now: a commit or a send."""
        self._kill_in = points

    def spare(self) -> None:
        """Undo `kill_in`."""
        self._kill_in = None

    def touch_off(self, what: str) -> None:
        """A point at which the process may be killed."""
        if self._kill_in is not None:
            self._kill_in -= 1
            if self._kill_in <= 0:
                self.world.note(self.name, f"killed at {what}")
                raise Killed

    def die(self, *, is_power_lost: bool) -> None:
        """The end, whatever it was doing."""
        self.is_running = False
        self.links.die(is_power_lost=is_power_lost)

    def pause(self) -> None:
        """Stand still; what arrives waits."""
        self.is_paused = True

    def resume(self, stood_still_s: float, *, is_suspended: bool) -> None:
        """Go on, late. `is_suspended`: the clock stood still as well, as with a stopped VM."""
        if not self.is_running:
            return
        self.is_paused = False
        if is_suspended:
            self._suspended_s += stood_still_s
        waiting, self._inbox = list(self._inbox), deque(maxlen=INBOX_MAX)
        firsts: list[Callable[[], None]] = [self._fire, self._turn]
        if not is_suspended:
            firsts.append(lambda: self.agent.lagged(stood_still_s))
        self._rng.shuffle(firsts)
        place = self._rng.randrange(len(waiting) + 1) if self._rng.random() < 0.3 else 0
        for call in [*waiting[:place], *firsts, *waiting[place:]]:
            self.act(call)

    # Loops ---------------------------------------------------------------------------------

    # They wake when they are told to or at the deadline they asked for before they slept, as
    # those of `pins` and `drive` do: who changes a deadline has to wake them.

    def let_out(self, messages: tuple[Message, ...]) -> None:
        """These leave on some link."""
        self.watcher.left(self, messages)

    def overhear(self, peer: NodeName, messages: tuple[Message, ...]) -> None:
        """These have come on the link to `peer`."""
        self.world.note(self.name, "hears", peer, messages)
        self.watcher.heard(self, peer, messages)

    def note_link(self, peer: NodeName) -> None:
        """There is a new link to `peer`."""
        self.world.note(self.name, "linked", peer)
        self.watcher.linked(self, peer)

    def _work(self) -> None:
        if self._turn_at > self.world.now + TURN_LAG_S_MAX:
            self._turn_at_latest(self.world.now + self._rng.random() * TURN_LAG_S_MAX)

    def _turn_at_latest(self, at: float) -> None:
        if at < self._turn_at:
            self._turn_at = at
            self.world.at(at, lambda: self._turn_due(at))

    def _turn_due(self, at: float) -> None:
        if self._turn_at == at:
            self._turn_at = math.inf
            self.act(self._turn)

    def _turn(self) -> None:
        self.turns.allow_for_lag(self._deadline)
        self.turns.take()
        self._deadline = self.turns.next_deadline()
        if self._deadline < math.inf:
            wait_s = max(0.0, self._deadline - self.table_now())
            self._turn_at_latest(self.world.now + wait_s + self._late_s())

    def _hurry(self) -> None:
        self._fire_at_latest(self.world.now)

    def _fire_at_latest(self, at: float) -> None:
        if at < self._timer_at:
            self._timer_at = at
            self.world.at(at, lambda: self._timer_due(at))

    def _timer_due(self, at: float) -> None:
        if self._timer_at == at:
            self._timer_at = math.inf
            self.act(self._fire)

    def _fire(self) -> None:
        self.agent.handle_timer()
        due = self.agent.next_deadline()
        if due < math.inf:
            wait_s = max(0.0, due - self.now())
            self._fire_at_latest(self.world.now + wait_s + self._late_s())

    def _late_s(self) -> float:
        return self._rng.random() * TIMER_LAG_S_MAX

    def _hand_out(self) -> None:
        answers, self._answers = self._answers, []
        self._has_answered |= bool(answers)
        for answer, pin in answers:
            answer(pin)

    def _upkeep(self) -> None:
        if self.is_running:
            self.act(self._upkeep_now)
            self.world.at(self.world.now + UPKEEP_S, self._upkeep)

    def _upkeep_now(self) -> None:
        self.agent.upkeep()
        if self._rng.random() < 0.1:
            self.store.sweep(self.table_now())
        if self.membership.ownership.quorate and self.membership.me.synced:
            self.disk.contact = self.table_now()

    def fading(self, key: SessionKey, stone: Pin) -> bool:
        """As `Mesh.fading`."""
        return not self.membership.is_whole and self.turns.prolong(key, stone)

    # Claims ------------------------------------------------------------------------------

    def claim(self, proposal: Proposal, answered: Callable[[Pin], None]) -> None:
        """As `StickTable.claim`; `answered` is called once the process has done its step."""
        self._tokens += 1
        self._waiting[self._tokens] = answered
        self.turns.receive(ClaimStarted(self._tokens, proposal))

    def commit(self) -> None:
        """As `PinAgent.commit`."""
        self.store.commit()

    def _done(self, done: ClaimDone) -> None:
        self.counters.claims[done.outcome.value] += 1
        self._answers.append((self._waiting.pop(done.token), done.pin))

    # Leaving -----------------------------------------------------------------------------

    def leave(self, left: Callable[[], None]) -> None:
        """As `Mesh.leave`; `left` is called when the process may end."""
        limit = self.world.now + FLUSH_S_MAX

        def look() -> None:
            if self.turns.has_untold() and self.world.now < limit:
                self.world.at(self.world.now + LEAVE_POLL_S, lambda: self.act(look))
                return
            self.agent.leave()
            self.world.at(self.world.now + LEAVE_POLL_S, lambda: self.act(left))

        self.act(self.turns.leave)
        self.act(look)


class _TableClock:
    """As `meshlb.cluster.clock.TableClock`."""

    def __init__(self, process: Process) -> None:
        self.now = process.table_now
