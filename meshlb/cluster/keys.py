"""The cluster's secrets at this node: kept, agreed on with peers, changed by operators.

Owns this node's keyring as it stands, what each peer has said of its own, and the rules by which
an order of an operator is refused. A node says what it holds after each change, on every stream
and on each new one; that is its acknowledgement. Must not know streams or datagrams: whoever
seals is told of each change.

Spec: protocol/spec/keyring.md.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import Final

import structlog

from meshlb.core.keyring import KeyBook
from meshlb.errors import KeyOrderError, StoreError
from meshlb.model import ClusterSecret, HashKey, KeyId, NodeName
from meshlb.store.keyring import KeyringFile
from meshlb.wire.key_words import KeyringState
from meshlb.wire.limits import KEYRING_SECRETS_MAX
from meshlb.wire.seal import Keyring, key_id_of

PEERS_MAX: Final = 1_024
"""Peers whose last word is remembered; the one that spoke first makes room."""

_NONE_LEFT: Final = (
    "every configured secret was removed from the cluster with `meshlb keys`;"
    " configure one that the cluster uses now"
)

_log = structlog.get_logger("meshlb.cluster")


@dataclass(frozen=True, slots=True)
class KeyReport:
    """What a member has said of its own keyring."""

    held: tuple[KeyId, ...]
    sealing: KeyId

    @classmethod
    def of(cls, state: KeyringState) -> "KeyReport":
        """The part of `state` that is about its sender."""
        return cls(state.held, state.sealing)


class ClusterKeys:
    """One per node that has a cluster."""

    def __init__(
        self,
        me: NodeName,
        configured: tuple[bytes, ...],
        *,
        file: KeyringFile,
        wall_ms: Callable[[], int],
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        """Merge the configured secrets with those of the last start.

        Args:
            me: this node.
            configured: at least one secret; the first seals until an operator says otherwise.
            file: where the keyring is kept.
            wall_ms: reads the wall clock.
            on_change: called after each change of what this node holds, uses or knows.

        Raises:
            StoreError: the kept keyring cannot be read, or leaves no secret to start with.
        """
        self._me = me
        self._file = file
        self._wall_ms = wall_ms
        self._listeners = [on_change]
        self._reports: dict[NodeName, KeyReport] = {}
        self._book = KeyBook.of(configured)
        if (kept := file.load()) is not None:
            self._book = self._book.heard(kept)
        for key_id in self._book.stale():
            _log.warning("a configured secret was removed from the cluster", key=key_id.hex())
        keyring = self._book.keyring()
        if keyring is None:
            raise StoreError(_NONE_LEFT)
        self._keyring = keyring
        self._state = self._book.state()

    def begin(self, on_change: Callable[[], None]) -> None:
        """`on_change` is called too from now on: it lets peers know."""
        self._listeners.append(on_change)

    # What is known -----------------------------------------------------------------------

    @property
    def keyring(self) -> Keyring:
        """What this node seals with and opens with."""
        return self._keyring

    @property
    def hash_key(self) -> HashKey:
        """What keys the hash of session keys."""
        return self._book.hash_key

    def state(self) -> KeyringState:
        """What this node tells its peers."""
        return self._state

    def report(self, name: NodeName) -> KeyReport | None:
        """The last word of a member on its own keyring; None where there was none."""
        return KeyReport.of(self._state) if name == self._me else self._reports.get(name)

    def known(self) -> tuple[KeyId, ...]:
        """Every secret that this node or a peer holds, this node's first."""
        everywhere = [*self._keyring.key_ids]
        for report in self._reports.values():
            everywhere += report.held
        return tuple(dict.fromkeys(everywhere))

    # What happens ------------------------------------------------------------------------

    def hear(self, peer: NodeName, state: KeyringState) -> None:
        """A peer says what it holds, and what it has heard."""
        self._reports.pop(peer, None)
        if len(self._reports) >= PEERS_MAX:
            del self._reports[next(iter(self._reports))]
        self._reports[peer] = KeyReport.of(state)
        self._adopt(self._book.heard(state), f"told by {peer}")

    def serve(self) -> None:
        """Clients are let in from now on: what keys their session keys must not be lost."""
        self._adopt(self._book.serve(wall_ms=self._wall_ms()), "in sync")

    def _adopt(self, book: KeyBook, reason: str) -> None:
        keyring = book.keyring()
        if keyring is None:
            _log.error("a word that leaves no secret is ignored", reason=reason)
            return
        before, self._book = self._state, book
        self._state = book.state()
        if self._state == before:
            return
        self._keyring = keyring
        try:
            self._file.save(self._state)
        except StoreError as error:
            _log.error("the keyring could not be kept", reason=str(error))
        if before.hash_key != self._state.hash_key and before.hash_key_born_ms:
            _log.warning(
                "session keys are hashed anew: two clusters have become one, and the pins of the"
                " younger one that were not made by cookie are lost"
            )
        if (before.held, before.sealing) != (self._state.held, self._state.sealing):
            _log.info(
                "keyring changed",
                reason=reason,
                sealing=self._state.sealing.hex(),
                held=[key_id.hex() for key_id in self._state.held],
            )
        for listener in self._listeners:
            listener()

    def configure(self, secrets: tuple[bytes, ...]) -> None:
        """The configuration lists other secrets now; what operators have said outranks it."""
        book = replace(self._book, configured=secrets)
        for key_id in book.stale():
            _log.warning("a configured secret was removed from the cluster", key=key_id.hex())
        self._adopt(book, "configured")

    def refusal_of(self, secrets: tuple[bytes, ...]) -> str | None:
        """Why this node cannot be configured with `secrets`; None where it can."""
        left = replace(self._book, configured=secrets).keyring()
        return None if left is not None else _NONE_LEFT

    # What operators order ----------------------------------------------------------------

    def install(self, secret: ClusterSecret) -> KeyId:
        """Have all members hold `secret`; saying it again tells those that missed it.

        Raises:
            KeyOrderError: there are as many secrets as there may be.
        """
        key_id = key_id_of(secret)
        others = set(self.known()) - {key_id}
        if len(others) >= KEYRING_SECRETS_MAX:
            raise KeyOrderError(
                "too_many", f"the cluster holds {KEYRING_SECRETS_MAX} secrets; remove one first"
            )
        book = self._book.install(secret, by=self._me, wall_ms=self._wall_ms())
        self._adopt(book, "ordered here")
        return key_id

    def use(self, key_id: KeyId, *, live: Collection[NodeName], force: bool) -> None:
        """Have all members seal with a secret that they hold.

        Raises:
            KeyOrderError: this node does not hold it, or one of `live` does not and `force` is
                not set.
        """
        if key_id not in self._keyring.key_ids:
            raise _unknown(key_id)
        lacking = [name for name in live if not self._holds(name, key_id)]
        if lacking and not force:
            raise KeyOrderError(
                "not_installed",
                f"not all members have the secret {key_id.hex()} yet: {', '.join(sorted(lacking))}",
            )
        book = self._book.use_key(key_id, by=self._me, wall_ms=self._wall_ms())
        self._adopt(book, "ordered here")

    def remove(self, key_id: KeyId, *, members: Collection[NodeName], force: bool) -> None:
        """Have all members forget a secret.

        Raises:
            KeyOrderError: nobody holds it; this node seals with it; or one of `members` may
                still need it and `force` is not set.
        """
        if key_id not in self.known():
            raise _unknown(key_id)
        sealing = self._keyring.key_ids[0]
        if key_id == sealing:
            raise KeyOrderError(
                "in_use", f"this node seals with the secret {key_id.hex()}; use another one first"
            )
        needing = [name for name in members if not self._is_free_of(name, key_id, sealing)]
        if needing and not force:
            raise KeyOrderError(
                "in_use",
                f"these members may still need the secret {key_id.hex()}:"
                f" {', '.join(sorted(needing))}",
            )
        book = self._book.remove(key_id, by=self._me, wall_ms=self._wall_ms())
        self._adopt(book, "ordered here")

    def _holds(self, name: NodeName, key_id: KeyId) -> bool:
        report = self.report(name)
        return report is not None and key_id in report.held

    def _is_free_of(self, name: NodeName, key_id: KeyId, sealing: KeyId) -> bool:
        """Whether `name` can do without `key_id`: it holds our own and does not seal with it."""
        report = self.report(name)
        return report is not None and report.sealing != key_id and sealing in report.held


def _unknown(key_id: KeyId) -> KeyOrderError:
    return KeyOrderError("unknown_key", f"there is no secret {key_id.hex()} here")
