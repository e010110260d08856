"""Turns the `join` list of the configuration into addresses.

Owns the resolving of names; all addresses of a name are members. A name is asked for again for as
long as the node runs, and one that does not resolve any more keeps the addresses that it had.

Only addresses of the family that this node is bound to count: the others of a member with both
could never be reached, and would be taken for members that are missing.
"""

import math
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

import structlog
import trio

from meshlb.config.kinds import DnsSeed
from meshlb.model import Address

RESOLVE_S: Final = 3.0
RESOLVE_EVERY_S: Final = 15.0
RESOLVE_AGAIN_S: Final = 1.0
"""While there is a name that has never resolved."""

SEEDS_MAX: Final = 256

_log = structlog.get_logger("meshlb.cluster")


@dataclass(frozen=True, slots=True)
class Seeds:
    """Where to look for members."""

    addresses: tuple[Address, ...]
    """Each once."""
    unresolved: int
    """Names that have never resolved."""

    @property
    def next_look_s(self) -> float:
        """How long to wait before the names are asked for again."""
        return RESOLVE_AGAIN_S if self.unresolved else RESOLVE_EVERY_S


class Discovery:
    """One per node."""

    def __init__(self, join: Iterable[Address | DnsSeed], *, family: socket.AddressFamily) -> None:
        """`family` is that of the address this node is bound to."""
        self._join = tuple(join)
        self._changed = trio.Event()
        self._family = family
        self._known: dict[DnsSeed, list[Address]] = {}
        self._failing: set[DnsSeed] = set()

    @property
    def has_names(self) -> bool:
        """Whether there is anything to resolve."""
        return any(isinstance(seed, DnsSeed) for seed in self._join)

    def use(self, join: Iterable[Address | DnsSeed]) -> None:
        """Look at other places from now on."""
        self._join = tuple(join)
        self._known = {name: self._known[name] for name in self._known if name in self._join}
        self._changed.set()

    async def run(self, tell: Callable[[Seeds], None]) -> None:
        """Resolve the names again and again, until cancelled; addresses need no resolving."""
        while True:
            changed = self._changed = trio.Event()
            next_look_s = math.inf
            if self.has_names:
                seeds = await self.look()
                tell(seeds)
                next_look_s = seeds.next_look_s
            with trio.move_on_after(next_look_s):
                await changed.wait()

    def seeds(self) -> Seeds:
        """What is known now."""
        found: dict[Address, None] = {}
        for seed in self._join:
            addresses = [seed] if isinstance(seed, Address) else self._known.get(seed, [])
            found.update(dict.fromkeys(addresses))
        names = [seed for seed in self._join if isinstance(seed, DnsSeed)]
        unresolved = sum(name not in self._known for name in names)
        return Seeds(tuple(found)[:SEEDS_MAX], unresolved)

    async def look(self) -> Seeds:
        """Ask for all names at once; what is known then, after `RESOLVE_S` at the latest."""
        async with trio.open_nursery() as nursery:
            for seed in self._join:
                if isinstance(seed, DnsSeed):
                    nursery.start_soon(self._look_up, seed)
        return self.seeds()

    async def _look_up(self, seed: DnsSeed) -> None:
        try:
            with trio.fail_after(RESOLVE_S):
                answers = await trio.socket.getaddrinfo(
                    seed.name, seed.port, family=self._family, type=socket.SOCK_STREAM
                )
        except (OSError, UnicodeError, trio.TooSlowError) as error:
            if seed not in self._failing:
                self._failing.add(seed)
                reason = str(error) or f"no answer within {RESOLVE_S:g} s"
                _log.warning(
                    "a name to join by does not resolve; trying on", name=seed.name, reason=reason
                )
            return
        self._known[seed] = [Address(str(place[0]), seed.port) for *_, place in answers]
        if seed in self._failing:
            self._failing.discard(seed)
            _log.info("a name to join by resolves again", name=seed.name)
