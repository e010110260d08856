"""The two datagrams by which a peer proves that it seals now, and is no recording.

Owns the shape, as `messages` does for all others.

Spec: protocol/spec/sealing.md, S11 to S13.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Challenge:
    """Prove that you seal now: a datagram of yours may be a recording. Datagram only."""

    nonce: int


@dataclass(frozen=True, slots=True)
class ChallengeAnswer:
    """The nonce of a Challenge, sealed by whom it was sent to. Datagram only."""

    nonce: int
