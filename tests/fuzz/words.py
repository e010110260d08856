"""What members say of each other, of secrets and of backends is merged alike in any order.

Input: a byte that picks what is told, then the tellings.
"""

import random
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from meshlb.cluster.overrides import Overrides
from meshlb.core.keyring import KeyBook
from meshlb.core.swim.view import View
from meshlb.model import (
    BackendName,
    BackendState,
    BootId,
    ClusterSecret,
    HashKey,
    MemberState,
    NodeName,
    PoolName,
)
from meshlb.wire.key_words import InstalledKey, KeyringState, KeyWord
from meshlb.wire.limits import KEYRING_SECRETS_MAX
from meshlb.wire.messages import BackendOverride, MemberUpdate
from meshlb.wire.seal import key_id_of
from tests.fakes.overrides import NoKeeper
from tests.fakes.swim import address_of, member, told
from tests.fuzz.reader import Reader

NAMES = ["b", "c", "d"]
SECRETS = [ClusterSecret(bytes([number]) * 32) for number in range(KEYRING_SECRETS_MAX)]
# No more than a keyring has room for: which of more is forgotten depends on when each is heard,
# and evens out only when states are exchanged again.
STAMPS = [1, 2, 3, 0, 2**64 - 1]
TELLINGS_MAX = 16

Telling = TypeVar("Telling")
Result = Callable[[list[Any]], object]


def members_of(heard: list[MemberUpdate]) -> object:
    """What a view holds, but for who said it first."""
    view = View(member("a"))
    for update in heard:
        view.apply(update, 0.0)
    return {
        known.name: (known.incarnation, known.boot_id, known.state, known.address, known.synced)
        for known in view.all()
    }


def secrets_of(heard: list[KeyringState]) -> object:
    book = KeyBook.of((SECRETS[0],))
    for state in heard:
        book = book.heard(state)
    return book


def backends_of(heard: list[BackendOverride]) -> object:
    overrides = Overrides(NodeName("a"), NoKeeper())
    for word in heard:
        overrides.hear(word)
    return {(word.pool, word.backend): word for word in overrides.all()}


def _member_update(reader: Reader) -> MemberUpdate:
    # One life has one address, and is synced or not: its subject alone says so, and raises its
    # incarnation when it changes.
    incarnation, boot = reader.number() % 4, reader.number() % 3
    return told(
        reader.pick(NAMES),
        reader.pick(list(MemberState)),
        incarnation,
        boot_id=BootId(boot),
        address=address_of("bcd"[boot]),
        synced=incarnation > 1,
        reporter=NodeName(reader.pick(NAMES)),
    )


def _keyring_state(reader: Reader) -> KeyringState:
    by = [NodeName("b"), NodeName("c")]

    def word() -> KeyWord:
        return KeyWord(key_id_of(reader.pick(SECRETS)), reader.pick(STAMPS), reader.pick(by))

    return KeyringState(
        installed=tuple(
            InstalledKey(reader.pick(SECRETS), reader.pick(STAMPS), reader.pick(by))
            for _ in range(reader.number() % 4)
        ),
        removed=tuple(word() for _ in range(reader.number() % 4)),
        use=word() if reader.number() % 2 else None,
        held=(key_id_of(SECRETS[0]),),
        sealing=key_id_of(SECRETS[0]),
        hash_key=HashKey(bytes([reader.number() % 3]) * 32),
        hash_key_born_ms=reader.pick(STAMPS),
    )


def _backend_override(reader: Reader) -> BackendOverride:
    # One speaker says one thing at one time.
    stamp_ms, by = reader.pick(STAMPS), reader.pick(NAMES)
    states = list(BackendState)
    return BackendOverride(
        PoolName("app"),
        BackendName(reader.pick(["s1", "s2"])),
        states[(stamp_ms + ord(by)) % len(states)],
        stamp_ms,
        NodeName(by),
    )


KINDS: list[tuple[Callable[[Reader], Any], Result]] = [
    (_member_update, members_of),
    (_keyring_state, secrets_of),
    (_backend_override, backends_of),
]


def check(given: bytes, merged: Result | None = None) -> None:
    """Raises what must not happen. `merged` replaces what merges."""
    reader = Reader(given)
    read, result = reader.pick(KINDS)
    result = merged or result
    heard = []
    while not reader.is_empty and len(heard) < TELLINGS_MAX:
        heard.append(read(reader))
    expected = result(heard)
    for seed in range(3):
        again = heard + heard[::2]
        random.Random(seed).shuffle(again)
        assert result(again) == expected


def seeds() -> Iterator[bytes]:
    rng = random.Random(2026)
    for kind in range(len(KINDS)):
        for size in (20, 60, 120):
            yield bytes([kind]) + rng.randbytes(size)
