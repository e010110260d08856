"""Tables that are there before their node starts: written through `meshlb.store` itself.

What a node writes in an hour of new sessions, this writes in a few seconds: the records, in the
order in which sessions come, that is none, with the counts and the sums of a real table.
"""

import base64
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from meshlb.core.keyring import first_hash_key
from meshlb.core.sticky.digest import DigestedStore
from meshlb.core.sticky.extract import hash_key
from meshlb.core.sticky.pin import Pin
from meshlb.model import BackendName, KeySource, NodeName, PoolName, SessionKey
from meshlb.store import LmdbPins
from meshlb.wire.messages import Rank

BATCH_PINS = 1_000
TTL_S = 1_200.0


def session(number: int) -> str:
    """The session of a pin, as its client sends it."""
    return f"session-{number}"


def backend_of(number: int, backends: Sequence[str]) -> str:
    """The backend that a pin is for."""
    return backends[number % len(backends)]


def fill(data_dir: Path, pins: int, *, secret: str, backends: Sequence[str]) -> None:
    """Write so many pins of sessions in the header X-Session, made by a node that is no more."""
    data_dir.mkdir(parents=True)
    store = LmdbPins(data_dir)
    digested = DigestedStore(store, store.buckets)
    for number, (key, pin) in enumerate(records(pins, secret=secret, backends=backends)):
        digested.put(key, pin)
        if number % BATCH_PINS == BATCH_PINS - 1:
            store.commit()
    store.note_contact(time.time())
    store.close()


def records(pins: int, *, secret: str, backends: Sequence[str]) -> Iterator[tuple[SessionKey, Pin]]:
    """The keys and pins of a table."""
    key_secret = first_hash_key(base64.b64decode(secret))
    pool, by, claimer = PoolName("app"), KeySource.HEADER, NodeName("lb-0")
    now = time.time()
    for number in range(pins):
        key = hash_key(key_secret, pool, by, "X-Session", session(number).encode())
        backend = BackendName(backend_of(number, backends))
        stamp_ms = round(now * 1_000) - pins + number
        yield key, Pin(pool, backend, by, 0, Rank.QUORATE, stamp_ms, claimer, now + TTL_S)


def copy(data_dir: Path, to: Path) -> None:
    """The same table for another node."""
    to.mkdir(parents=True, exist_ok=True)
    shutil.copy(data_dir / "data.mdb", to / "data.mdb")


def read(data_dir: Path) -> dict[SessionKey, tuple[object, ...]]:
    """What the table of a node that does not run holds, but for its lifetimes."""
    store = LmdbPins(data_dir)
    found: dict[SessionKey, tuple[object, ...]] = {}
    after: SessionKey | None = None
    while page := store.scan(after, 10_000):
        for key, pin in page:
            found[key] = (pin.backend, pin.epoch, pin.rank, pin.stamp_ms, pin.claimer)
        after = page[-1][0]
    store.close()
    return found
