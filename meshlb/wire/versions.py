"""What a node speaks, and what two nodes, or all of a cluster, therefore may say to each other.

Owns the protocol's versions and features, which message belongs to which, and how a common
dialect is found. A version is what every node of it understands; a feature is what a node of a
version may have or lack. Must not know who the peers are, nor how they learn of each other.

Spec: protocol/spec/versions.md.
"""

import enum
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Final

from meshlb.wire.broadcast_words import Broadcast, BroadcastAck
from meshlb.wire.challenge import Challenge, ChallengeAnswer
from meshlb.wire.messages import TYPE_IDS, MemberUpdate
from meshlb.wire.runs import TableRun

VERSION_MIN: Final = 1
VERSION_MAX: Final = 2


class Feature(enum.IntFlag):
    """What a node of a version may have or lack. Bits that we do not know mean nothing to us."""

    BROADCAST = 1
    """What is told to all members is acknowledged by each."""
    COPIES = 2
    """Whole tables travel in packed records."""


ALL_FEATURES: Final = Feature.BROADCAST | Feature.COPIES
NO_FEATURES: Final = Feature(0)

SINCE: Final[dict[type, int]] = {Challenge: 2, ChallengeAnswer: 2}
"""The version that brought a message; all others are as old as the protocol."""

FEATURE_OF: Final[dict[type, Feature]] = {
    Broadcast: Feature.BROADCAST,
    BroadcastAck: Feature.BROADCAST,
    TableRun: Feature.COPIES,
}
"""The feature that a message is a part of."""

FEATURES_SINCE: Final = 2
"""Version 1 knows of no features."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """What may be said: a version, and the features that all concerned have."""

    version: int
    features: Feature = NO_FEATURES

    def has(self, feature: Feature) -> bool:
        """True where all concerned have `feature`."""
        return feature in self.features

    @property
    def kinds(self) -> frozenset[type]:
        """The messages that may be sent."""
        return _kinds(self.version, self.features)


@cache
def _kinds(version: int, features: Feature) -> frozenset[type]:
    return frozenset(
        kind
        for kind in TYPE_IDS.values()
        if SINCE.get(kind, VERSION_MIN) <= version and FEATURE_OF.get(kind, NO_FEATURES) in features
    )


@dataclass(frozen=True, slots=True)
class Versions:
    """What one node speaks: every version of a span, and its features."""

    lowest: int
    highest: int
    features: Feature

    def __str__(self) -> str:
        return f"versions {self.lowest} to {self.highest}"

    def common(self, other: "Versions") -> Dialect | None:
        """What this node and `other` speak with each other; None where they cannot."""
        version = min(self.highest, other.highest)
        if version < max(self.lowest, other.lowest):
            return None
        return self.dialect(version, other.features)

    def dialect(self, version: int, features: int) -> Dialect:
        """A version of ours, with those of `features` that this node has as well."""
        shared = self.features & ALL_FEATURES & features
        return Dialect(version, shared if version >= FEATURES_SINCE else NO_FEATURES)

    def takes(self, kind: type) -> bool:
        """True where the highest version has messages of `kind`, features aside."""
        return SINCE.get(kind, VERSION_MIN) <= self.highest

    @classmethod
    def told(cls, update: MemberUpdate) -> "Versions | None":
        """What a report says that its subject speaks; None where the teller did not know."""
        if not update.version_max:
            return None
        return cls(update.version_min, update.version_max, Feature(update.features))


OURS: Final = Versions(VERSION_MIN, VERSION_MAX, ALL_FEATURES)
"""What this implementation speaks."""

FIRST: Final = Versions(1, 1, NO_FEATURES)
"""What a member speaks of which nobody has said anything: version 1 could not say it."""


def common_of(members: Iterable[Versions | None]) -> Dialect | None:
    """What all of a cluster speak, at least one; None where they have no version in common."""
    spoken = [versions or FIRST for versions in members]
    version = min(versions.highest for versions in spoken)
    if version < max(versions.lowest for versions in spoken):
        return None
    features = ALL_FEATURES
    for versions in spoken:
        features &= versions.features
    return Dialect(version, features if version >= FEATURES_SINCE else NO_FEATURES)
