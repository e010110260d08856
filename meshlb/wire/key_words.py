"""What members tell each other of the cluster's secrets: one message, and the records in it.

Owns the shape, as `messages` does for all others. No value here shows a secret in its repr.

Spec: protocol/spec/keyring.md.
"""

from dataclasses import dataclass, field

from meshlb.model import ClusterSecret, HashKey, KeyId, NodeName


@dataclass(frozen=True, slots=True)
class InstalledKey:
    """An operator's word: every member holds this secret."""

    secret: ClusterSecret = field(repr=False)
    stamp_ms: int
    by: NodeName


@dataclass(frozen=True, slots=True)
class KeyWord:
    """An operator's word on the secret that `key_id` names; the greatest (stamp_ms, by) wins."""

    key_id: KeyId
    stamp_ms: int
    by: NodeName


@dataclass(frozen=True, slots=True)
class KeyringState:
    """All that the sender knows of the cluster's secrets, and which of them it holds and uses.

    The first message on a new stream, and sent again after each change. `held` and `sealing` are
    about the sender alone; all else is merged by who hears it.
    """

    installed: tuple[InstalledKey, ...]
    removed: tuple[KeyWord, ...]
    use: KeyWord | None
    """Which secret seals; nil where no operator has said so, and each node's first one does."""
    held: tuple[KeyId, ...]
    sealing: KeyId
    hash_key: HashKey = field(repr=False)
    hash_key_born_ms: int
    """When a cluster first served under `hash_key`; 0 where none has yet. The oldest stays."""
