"""How many connections the other nodes have to each backend: told once a second, and added up.

Owns what each member has said last, and what this node has told. It is for balancing alone: what is
lost or late makes a choice a little worse, and the next word mends it. So nobody waits for it, and
what a member has said goes when the member does. Must not know pools or the proxy.

Spec: protocol/spec/broadcast.md, "Topics".
"""

from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any, Final

import msgpack
import structlog
import trio

from meshlb.model import BackendName, NodeName, PoolName
from meshlb.wire.broadcast_words import Payload, Topic
from meshlb.wire.limits import NAME_BYTES_MAX, PAYLOAD_BYTES_MAX

CONNECTIONS: Final = Topic("connections")

TELL_EVERY_S: Final = 1.0
"""How old the numbers of another node may be, and how often changed ones cost a message."""

REPEAT_EVERY_S: Final = 10.0
"""All of them are told again, for whoever missed some."""

BACKENDS_MAX: Final = 4_096
"""Backends that a member may speak of; further ones are not taken in."""

CONNECTIONS_MAX: Final = 2**31 - 1 >> 8
"""More than any node has; the sum over all members fits 32 bits."""

_ENTRIES_PER_PAYLOAD: Final = PAYLOAD_BYTES_MAX // (2 * NAME_BYTES_MAX + 16)

BackendId = tuple[PoolName, BackendName]

log = structlog.get_logger("meshlb.cluster")


class Loads:
    """One per node of a cluster."""

    def __init__(
        self,
        *,
        here: Callable[[], Mapping[BackendId, int]],
        tell: Callable[[Topic, Payload], Awaitable[object]],
        live: Callable[[], Collection[NodeName]],
        on_change: Callable[[BackendId, int], None],
    ) -> None:
        """Wire.

        Args:
            here: this node's connections, by backend.
            tell: broadcasts, without waiting for an answer.
            live: the members that count, this node or not.
            on_change: told of a new sum of all other nodes.
        """
        self._here = here
        self._tell = tell
        self._live = live
        self._on_change = on_change
        self._said: dict[NodeName, dict[BackendId, int]] = {}
        self._told: dict[BackendId, int] = {}

    async def run(self) -> None:
        """Tell, and forget who is gone, until cancelled."""
        audience, repeat_at = frozenset[NodeName](), trio.current_time()
        while True:
            live = frozenset(self._live())
            self.keep(live)
            now = trio.current_time()
            is_repeating = now >= repeat_at or not live <= audience
            if is_repeating:
                repeat_at = now + REPEAT_EVERY_S
            audience = live
            for payload in self.news(everything=is_repeating):
                await self._tell(CONNECTIONS, payload)
            await trio.sleep(TELL_EVERY_S)

    def news(self, *, everything: bool = False) -> list[Payload]:
        """What has changed since the last time, ready to be told; or all that was ever told too."""
        now = {**dict.fromkeys(self._told, 0), **self._here()}
        news = [
            (*backend, min(count, CONNECTIONS_MAX))
            for backend, count in now.items()
            if count != self._told.get(backend, 0) or (everything and backend in self._told)
        ]
        for pool, name, _ in news:
            self._told[pool, name] = now[pool, name]
        size = _ENTRIES_PER_PAYLOAD
        return [
            Payload(msgpack.packb(news[start : start + size]))
            for start in range(0, len(news), size)
        ]

    def hear(self, sender: NodeName, payload: Payload) -> None:
        """A member has told its numbers; what it does not name is as it was."""
        try:
            entries = _entries(payload)
        except ValueError as error:
            log.warning("a malformed broadcast", sender=sender, reason=str(error))
            return
        said = self._said.setdefault(sender, {})
        for backend, count in entries.items():
            if count and (backend in said or len(said) < BACKENDS_MAX):
                said[backend] = count
            elif not count:
                said.pop(backend, None)
        self._add_up(entries)

    def keep(self, live: Collection[NodeName]) -> None:
        """Only these members count from now on."""
        for name in self._said.keys() - set(live):
            self._add_up(self._said.pop(name))

    def elsewhere(self, backend: BackendId) -> int:
        """The sum of all other nodes."""
        return sum(said.get(backend, 0) for said in self._said.values())

    def _add_up(self, backends: Collection[BackendId]) -> None:
        for backend in backends:
            self._on_change(backend, self.elsewhere(backend))


def _entries(payload: Payload) -> dict[BackendId, int]:
    try:
        entries: Any = msgpack.unpackb(payload)
        found = {(PoolName(pool), BackendName(name)): count for pool, name, count in entries}
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise ValueError("it is no list of connections") from error
    for (pool, name), count in found.items():
        if type(pool) is not str or type(name) is not str or type(count) is not int:
            raise ValueError("it is no list of connections")
        if not 0 <= count <= CONNECTIONS_MAX:
            raise ValueError("so many connections cannot be")
    return found
