"""A deterministic, single-threaded simulator: a heap of deliveries, virtual time, one seed.

Owns: time, order, and which nodes run, stand still or are gone. A node is any machine of the
shape of `meshlb.core`: `receive`, `next_deadline`, `handle_timer`. What an effect does is the
business of the `perform` that is passed in; it schedules deliveries by `deliver`.
Must not know: what the machines do.
"""

import heapq
import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, Protocol

INBOX_MAX = 1_000
"""Events that wait for a node that stands still, as in a socket's buffer; more are lost."""

TIMER_LAG_MAX_S = 0.002
"""A timer fires up to this late, as it does in an event loop."""


class Machine(Protocol):
    """The shape that all machines of the core share."""

    def receive(self, event: Any, now: float) -> Sequence[Any]: ...
    def next_deadline(self) -> float | None: ...
    def handle_timer(self, now: float) -> Sequence[Any]: ...


@dataclass
class _Node:
    machine: Machine
    life: int
    """Counts the machines that ran under this name: what was sent to an older one is lost."""
    paused: bool = False
    inbox: deque[Any] = field(default_factory=lambda: deque(maxlen=INBOX_MAX))
    armed_at: float | None = None


class Simulation:
    """Runs machines by name. Same seed and same calls give the same run, event by event."""

    def __init__(self, seed: int, perform: Callable[[str, Any], None]) -> None:
        self.rng = Random(seed)
        self.now = 0.0
        self.steps = 0
        self.observe: Callable[[float, str, Any], None] | None = None
        """Called before each event; a timer's event is None."""
        self._perform = perform
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._order = 0
        self._nodes: dict[str, _Node] = {}
        self._lives: dict[str, int] = {}

    # The world's hands.

    def start(self, name: str, machine: Machine) -> None:
        """Run `machine` under `name`, in place of any earlier one."""
        life = self._lives[name] = self._lives.get(name, 0) + 1
        self._nodes[name] = _Node(machine, life)
        self._arm(name)

    def crash(self, name: str) -> None:
        """Stop a node for good, between two events."""
        del self._nodes[name]

    def pause(self, name: str) -> None:
        """Let a node stand still (SIGSTOP, a stopped VM); what arrives waits in its inbox."""
        self._nodes[name].paused = True

    def resume(self, name: str) -> None:
        """Let it go on: it finds its inbox full and its timers late, in either order."""
        node = self._nodes[name]
        node.paused = False
        waiting, node.inbox = list(node.inbox), deque(maxlen=INBOX_MAX)
        first_timers = self.rng.random() < 0.5
        if first_timers:
            self._fire(name, node)
        for event in waiting:
            self._step(name, node, event)
        self._arm(name)

    def is_running(self, name: str) -> bool:
        """Whether a node has neither crashed nor stands still."""
        node = self._nodes.get(name)
        return node is not None and not node.paused

    def running(self) -> list[str]:
        """The names of all nodes that were started and have not crashed."""
        return list(self._nodes)

    def act(self, name: str, effects: Sequence[Any]) -> None:
        """Perform the effects of a method called on a machine from outside."""
        for effect in effects:
            self._perform(name, effect)
        self._arm(name)

    # Time.

    def at(self, when: float, call: Callable[[], None]) -> None:
        """Call `call` at that time."""
        self._order += 1
        heapq.heappush(self._heap, (max(when, self.now), self._order, call))

    def deliver(self, name: str, event: Any, delay_s: float) -> None:
        """Hand `event` to the node that runs under `name` now, if it still runs then.

        An infinite delay is never.
        """
        if math.isinf(delay_s):
            return
        life = self._lives.get(name, 0)
        self.at(self.now + delay_s, lambda: self._arrive(name, life, event))

    def run(self, until: float, done: Callable[[], bool] | None = None) -> bool:
        """Run to that time, or until `done` holds; whether it does."""
        while self._heap and self._heap[0][0] <= until:
            if done is not None and done():
                return True
            self.now, _, call = heapq.heappop(self._heap)
            call()
        self.now = max(self.now, until)
        return done is not None and done()

    # Inside.

    def _arrive(self, name: str, life: int, event: Any) -> None:
        node = self._nodes.get(name)
        if node is None or node.life != life:
            return
        if node.paused:
            node.inbox.append(event)
        else:
            self._step(name, node, event)
            self._arm(name)

    def _step(self, name: str, node: _Node, event: Any) -> None:
        self.steps += 1
        if self.observe:
            self.observe(self.now, name, event)
        for effect in node.machine.receive(event, self.now):
            self._perform(name, effect)

    def _fire(self, name: str, node: _Node) -> None:
        self.steps += 1
        if self.observe:
            self.observe(self.now, name, None)
        for effect in node.machine.handle_timer(self.now):
            self._perform(name, effect)

    def _arm(self, name: str) -> None:
        node = self._nodes.get(name)
        if node is None or node.paused:
            return
        deadline = node.machine.next_deadline()
        if deadline is None or (node.armed_at is not None and node.armed_at <= deadline):
            return
        node.armed_at = deadline
        lag_s = self.rng.random() * TIMER_LAG_MAX_S
        self.at(deadline + lag_s, lambda: self._timer(name, node, deadline))

    def _timer(self, name: str, node: _Node, armed_at: float) -> None:
        if self._nodes.get(name) is not node or node.armed_at != armed_at:
            return
        node.armed_at = None
        if node.paused:
            return
        deadline = node.machine.next_deadline()
        if deadline is not None and deadline <= self.now:
            self._fire(name, node)
        self._arm(name)
