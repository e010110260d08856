"""What the agreement on a new key costs in Python: three nodes in one process, without sockets.

`python -m tests.bench.agreement [--seconds S] [--window N] [--profile]`

Each node is a real claim machine with a real store; frames are encoded, sealed, opened and decoded
as on a stream, and handed over in memory. Every node keeps `--window` claims under way and takes
one turn for all that has come in a round, as a node under load does: a window of 1 shows what a
single claim costs, a large one what is left of it when everything is done in batches.
"""

import argparse
import cProfile
import itertools
import os
import pstats
import time
from collections import defaultdict, deque
from collections.abc import Iterable
from contextlib import ExitStack, closing
from pathlib import Path
from tempfile import TemporaryDirectory

from meshlb.cluster.counters import MeshCounters
from meshlb.cluster.turns import Turns
from meshlb.core.sticky.events import ClaimDone, ClaimStarted, ViewChanged
from meshlb.core.sticky.log import ReplicationLog
from meshlb.core.sticky.pin import Proposal
from meshlb.model import (
    SESSION_KEY_BYTES,
    BackendName,
    BootId,
    KeySource,
    NodeName,
    PoolName,
    SessionKey,
)
from meshlb.node.collector import spare_the_collector
from meshlb.store.pins import LmdbPins
from meshlb.wire.codec import decode, encode_message, join
from meshlb.wire.limits import MESSAGES_PER_FRAME_MAX
from meshlb.wire.messages import Message
from meshlb.wire.seal import FrameOpener, FrameSealer

NAMES = [NodeName(f"lb-{number}") for number in (1, 2, 3)]
VIEW_ID = 1
TTL_S = 1_200.0
FRAME_KEY = bytes(32)
WARM_UP_S = 0.5
PROFILE_LINES = 60


class Wires:
    """The streams of one node: `meshlb.cluster.turns.Streams` in memory, sealed like the real."""

    def __init__(self, name: NodeName) -> None:
        self.arrived: deque[tuple[NodeName, bytes]] = deque()
        self.frames = 0
        self.messages = 0
        self._name = name
        self._to: dict[NodeName, Wires] = {}
        self._queued: defaultdict[NodeName, list[bytes]] = defaultdict(list)
        self._sealers = {peer: FrameSealer(FRAME_KEY) for peer in NAMES}
        self._openers = {peer: FrameOpener(FRAME_KEY) for peer in NAMES}

    def connect(self, peer: NodeName, wires: "Wires") -> None:
        self._to[peer] = wires

    def send(self, peer: NodeName, message: Message) -> None:
        self._queued[peer].append(encode_message(message))

    def takes_more(self, peer: NodeName) -> bool:
        return True

    def peers(self) -> Iterable[NodeName]:
        return self._to

    def flush(self) -> None:
        for peer, queued in self._queued.items():
            while queued:
                batch = queued[:MESSAGES_PER_FRAME_MAX]
                del queued[:MESSAGES_PER_FRAME_MAX]
                frame = self._sealers[peer].seal(join(batch))
                self._to[peer].arrived.append((self._name, frame))
                self.frames += 1
                self.messages += len(batch)

    def read(self) -> Iterable[tuple[NodeName, tuple[Message, ...]]]:
        """All that has come so far, frame by frame."""
        for _ in range(len(self.arrived)):
            peer, frame = self.arrived.popleft()
            for plain in self._openers[peer].receive(frame):
                yield peer, decode(plain)


class Node:
    """One member, and the claims of its clients."""

    def __init__(self, number: int, store: LmdbPins) -> None:
        self.name = NAMES[number]
        self.wires = Wires(self.name)
        self.done = 0
        self.commits = 0
        self._tokens = itertools.count()
        self._waiting = 0
        commit = store.commit

        def counted() -> None:
            self.commits += store.unwritten > 0
            commit()

        store.commit = counted  # type: ignore[method-assign]  # to count
        self.turns = Turns(
            name=self.name,
            log=ReplicationLog(BootId(number + 1)),
            store=store,
            bulk=store,
            streams=self.wires,
            counters=MeshCounters(),
            now=time.time,
            on_work=lambda: None,
            on_done=self._end,
        )

    def round(self, window: int) -> None:
        """Hear what has come, claim as much as is free, and act."""
        for peer, messages in self.wires.read():
            self.turns.hear(peer, messages)
        for _ in range(window - self._waiting):
            self._waiting += 1
            self.turns.receive(ClaimStarted(next(self._tokens), proposal()))
        self.turns.take()

    def _end(self, effect: ClaimDone) -> None:
        self._waiting -= 1
        self.done += 1


def proposal() -> Proposal:
    key = SessionKey(os.urandom(SESSION_KEY_BYTES))
    return Proposal(key, PoolName("app"), BackendName("s1"), KeySource.HEADER, TTL_S, None)


def connected(stack: ExitStack) -> list[Node]:
    """Three nodes that agree on a view, and have exchanged their marks."""
    folder = Path(stack.enter_context(TemporaryDirectory()))
    stores = [stack.enter_context(closing(LmdbPins(folder / name))) for name in NAMES]
    nodes = [Node(number, store) for number, store in enumerate(stores)]
    for node in nodes:
        node.turns.receive(ViewChanged(tuple(NAMES), VIEW_ID, quorate=True))
        for peer in nodes:
            if peer is not node:
                node.wires.connect(peer.name, peer.wires)
                node.turns.opened(peer.name, BootId(NAMES.index(peer.name) + 1))
    while any(node.turns.claims.barrier_missing or node.wires.arrived for node in nodes):
        for node in nodes:
            node.round(window=0)
    return nodes


def run(nodes: list[Node], window: int, seconds: float) -> None:
    """Keep all nodes busy."""
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        for node in nodes:
            node.round(window)


def counted(nodes: list[Node]) -> tuple[int, int, int, int]:
    """Claims, commits, frames and messages so far."""
    wires = [node.wires for node in nodes]
    return (
        sum(node.done for node in nodes),
        sum(node.commits for node in nodes),
        sum(wire.frames for wire in wires),
        sum(wire.messages for wire in wires),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--window", type=int, action="append", help="claims under way at a node")
    parser.add_argument("--profile", action="store_true")
    arguments = parser.parse_args()
    for window in arguments.window or (1, 64):
        with ExitStack() as stack:
            nodes = connected(stack)
            run(nodes, window, WARM_UP_S)
            spare_the_collector()
            before = counted(nodes)
            profile = cProfile.Profile()
            if arguments.profile:
                profile.enable()
            began_s = time.process_time()
            run(nodes, window, arguments.seconds)
            spent_s = time.process_time() - began_s
            profile.disable()
            done, *counts = (
                late - early for early, late in zip(before, counted(nodes), strict=True)
            )
        commits, frames, messages = (count / done for count in counts)
        print(
            f"window {window}: {1e6 * spent_s / done:.1f} CPU µs a claim, of all three nodes;"
            f" {commits:.2f} commits, {frames:.2f} frames, {messages:.2f} messages"
        )
        if arguments.profile:
            pstats.Stats(profile).sort_stats("tottime").print_stats(PROFILE_LINES)


if __name__ == "__main__":
    main()
