"""The cluster's secrets as all members come to agree on them: what is held, and what seals.

Owns the merge of what operators have said (a join: any order, duplication or delay of words gives
the same keyring), the order in which a node's secrets count, and the key of the session-key hash.
Must not know how words travel, where they are kept, or who is a member.

Words about one secret are ordered by (stamp, name of the speaker); removing wins a tie. A
configured secret counts as held unless it was removed by a word, so a file that still lists it
does not bring it back.

Spec: protocol/spec/keyring.md.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Final, Self

from meshlb.model import HASH_KEY_BYTES, ClusterSecret, HashKey, KeyId, NodeName
from meshlb.wire.key_words import InstalledKey, KeyringState, KeyWord
from meshlb.wire.limits import KEY_WORDS_MAX, KEYRING_SECRETS_MAX
from meshlb.wire.seal import Keyring, key_id_of

UNBORN: Final = 0
"""The birth of a hash key under which nobody has served yet."""

STAMP_MS_MAX: Final = 2**64 - 1
"""What travels as a stamp."""


def first_hash_key(secret: bytes) -> HashKey:
    """The hash key of a cluster that starts under `secret`; another purpose, another key."""
    return HashKey(
        hashlib.blake2b(key=secret, person=b"meshlb-key", digest_size=HASH_KEY_BYTES).digest()
    )


@dataclass(frozen=True, slots=True)
class KeyBook:
    """All that a node knows of the cluster's secrets. Each verb returns a new book."""

    configured: tuple[bytes, ...] = field(repr=False)
    """The secrets of this node's own configuration; the first seals until an operator speaks."""
    installed: tuple[InstalledKey, ...] = ()
    removed: tuple[KeyWord, ...] = ()
    use: KeyWord | None = None
    hash_key: HashKey = field(default=HashKey(b""), repr=False)
    hash_key_born_ms: int = UNBORN

    @classmethod
    def of(cls, configured: tuple[bytes, ...]) -> Self:
        """The book of a node that has heard nothing yet."""
        return cls(configured, hash_key=first_hash_key(configured[0]))

    # What follows from it ----------------------------------------------------------------

    def keyring(self) -> Keyring | None:
        """What to seal with (the first) and to open with; None where no secret is left."""
        removed = {word.key_id for word in self.removed}
        newest_first = sorted(self.installed, key=_rank, reverse=True)
        candidates = [
            *(secret for secret in self.configured if key_id_of(secret) not in removed),
            *(key.secret for key in newest_first),
        ]
        secrets = list(dict.fromkeys(candidates))
        if self.use is not None:
            # A stable sort: the one in use comes first, and all others stay in their order.
            used = self.use.key_id
            secrets.sort(key=lambda secret: key_id_of(secret) != used)
        return Keyring(tuple(secrets[:KEYRING_SECRETS_MAX])) if secrets else None

    def stale(self) -> tuple[KeyId, ...]:
        """Configured secrets that an operator has removed: they belong out of the file."""
        removed = {word.key_id for word in self.removed}
        return tuple(kid for kid in map(key_id_of, self.configured) if kid in removed)

    def state(self) -> KeyringState:
        """What this node tells its peers, and keeps for its next start."""
        keyring = self.keyring()
        assert keyring is not None, "a node without a secret has no peers"
        return KeyringState(
            installed=self.installed,
            removed=self.removed,
            use=self.use,
            held=keyring.key_ids,
            sealing=keyring.key_ids[0],
            hash_key=self.hash_key,
            hash_key_born_ms=self.hash_key_born_ms,
        )

    # What changes it ---------------------------------------------------------------------

    def heard(self, state: KeyringState) -> Self:
        """Merge what a peer, or the last start of this node, knew."""
        use = max((word for word in (self.use, state.use) if word), key=_rank, default=None)
        born = (state.hash_key_born_ms, state.hash_key)
        older = min((self.hash_key_born_ms, self.hash_key), born, key=_age)
        merged = self._with(self.installed + state.installed, self.removed + state.removed)
        return replace(merged, use=use, hash_key=older[1], hash_key_born_ms=older[0])

    def install(self, secret: ClusterSecret, *, by: NodeName, wall_ms: int) -> Self:
        """All members shall hold `secret`."""
        word = InstalledKey(secret, self._stamp(wall_ms), by)
        return self._with((*self.installed, word), self.removed)

    def use_key(self, key_id: KeyId, *, by: NodeName, wall_ms: int) -> Self:
        """All members shall seal with the secret that `key_id` names."""
        return replace(self, use=KeyWord(key_id, self._stamp(wall_ms), by))

    def remove(self, key_id: KeyId, *, by: NodeName, wall_ms: int) -> Self:
        """No member shall hold the secret that `key_id` names any longer."""
        word = KeyWord(key_id, self._stamp(wall_ms), by)
        return self._with(self.installed, (*self.removed, word))

    def serve(self, *, wall_ms: int) -> Self:
        """This node serves under its hash key from now on: the key is born, if it was not."""
        if self.hash_key_born_ms != UNBORN:
            return self
        return replace(self, hash_key_born_ms=max(wall_ms, UNBORN + 1))

    def _stamp(self, wall_ms: int) -> int:
        """Later than every word that this node has heard, whatever its clock says."""
        words: list[InstalledKey | KeyWord] = [*self.installed, *self.removed]
        if self.use is not None:
            words.append(self.use)
        latest_ms = max((word.stamp_ms for word in words), default=0)
        return min(max(wall_ms, latest_ms + 1), STAMP_MS_MAX)

    def _with(self, installed: Iterable[InstalledKey], removed: Iterable[KeyWord]) -> Self:
        """This book with the latest word on each secret, in an order that all members share."""
        latest_removed: dict[KeyId, KeyWord] = {}
        for word in sorted(removed, key=_order):
            latest_removed[word.key_id] = word
        latest: dict[KeyId, InstalledKey] = {}
        for key in sorted(installed, key=_order):
            gone = latest_removed.get(key_id_of(key.secret))
            if gone is None or _order(gone) < _order(key):
                latest[key_id_of(key.secret)] = key
        gone_for_good = [word for key_id, word in latest_removed.items() if key_id not in latest]
        return replace(
            self,
            installed=tuple(sorted(latest.values(), key=_rank)[-KEYRING_SECRETS_MAX:]),
            removed=tuple(sorted(gone_for_good, key=_rank)[-KEY_WORDS_MAX:]),
        )


def _order(word: InstalledKey | KeyWord) -> tuple[int, str]:
    return word.stamp_ms, word.by


def _rank(word: InstalledKey | KeyWord) -> tuple[int, str, bytes]:
    """A total order of words on different secrets, so that all members sort them alike."""
    secret_or_id = word.secret if isinstance(word, InstalledKey) else word.key_id
    return word.stamp_ms, word.by, secret_or_id


def _age(born: tuple[int, HashKey]) -> tuple[bool, int, bytes]:
    """The oldest first; what was never born comes last."""
    born_ms, hash_key = born
    return born_ms == UNBORN, born_ms, hash_key
