"""Turns the `join` list of the configuration into addresses.

Owns the resolving of names; all addresses of a name are members. A name that does not resolve
now may do so later: it is asked again for as long as the node runs.
"""

import socket
from collections.abc import Iterable
from typing import Final

import structlog
import trio

from meshlb.config.kinds import DnsSeed
from meshlb.model import Address

RESOLVE_S: Final = 3.0
RESOLVE_EVERY_S: Final = 15.0
SEEDS_MAX: Final = 256

_log = structlog.get_logger("meshlb.cluster")


async def resolve(seeds: Iterable[Address | DnsSeed]) -> tuple[Address, ...]:
    """The addresses of `seeds`, each once; a name that does not resolve in time gives none."""
    found: dict[Address, None] = {}
    for seed in seeds:
        if isinstance(seed, Address):
            found[seed] = None
        else:
            found.update(dict.fromkeys(await _look_up(seed)))
    return tuple(found)[:SEEDS_MAX]


async def _look_up(seed: DnsSeed) -> list[Address]:
    try:
        with trio.fail_after(RESOLVE_S):
            answers = await trio.socket.getaddrinfo(seed.name, seed.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError, trio.TooSlowError) as error:
        _log.warning("a name to join by does not resolve", name=seed.name, error=str(error))
        return []
    return [Address(str(place[0]), seed.port) for *_, place in answers]
