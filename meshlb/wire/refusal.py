"""Why a node does not let another in.

Owns the reasons, and how they are called on the wire. Must not know who refuses whom.

Spec: protocol/spec/handshake.md.
"""

import enum


class Refusal(enum.StrEnum):
    """Why a node does not let another in; the value is the reason that the log names."""

    OTHER_SECRET = "other-secret"
    OTHER_CLUSTER = "other-cluster"
    NAME_TAKEN = "name-taken"
    """A live member at another address has this name."""
    OTHER_VERSION = "other-version"
    CLUSTER_FULL = "cluster-full"
    """The view holds as many members as it may."""
    TOO_MANY = "too-many-connections"
    SELF = "self"
    """The address that was dialled is the dialler's own; not an error."""
    LINKED = "already-linked"
    """There is a stream to this very node already, found under another address; not an error."""
    SHUTTING_DOWN = "shutting-down"
    TLS_REQUIRED = "tls-required"
    """The one that refuses takes streams over TLS alone, and this is none."""
    NO_TLS = "no-tls"
    """The one that refuses has no certificate to show, and this is a stream over TLS."""
    CERTIFICATE = "certificate"
    """A certificate does not count, or does not name the node that shows it."""
    NOT_MESHLB = "not-meshlb"
    """What arrived is no handshake; never sent, only counted."""
    UNKNOWN = "unknown"
    """A reason that only a later version knows; never sent."""

    @classmethod
    def of(cls, reason: str) -> "Refusal":
        """The refusal that a peer has given as `reason`."""
        return cls(reason) if reason in _REASONS else cls.UNKNOWN


_REASONS = frozenset(refusal.value for refusal in Refusal)
