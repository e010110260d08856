"""What the parts of a node know, in the shapes of the admin API.

Owns only translations of values: nothing here asks a live part of the node for anything.
"""

from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime

from meshlb.admin.view import (
    ConfigView,
    Explanation,
    HealView,
    MoveView,
    PinChange,
    PinView,
    UpgradeView,
)
from meshlb.cluster.heals import Heal
from meshlb.cluster.story import KeyStory
from meshlb.core.sticky.pin import Pin
from meshlb.core.swim.member import Member
from meshlb.model import MemberState, SessionKey
from meshlb.node.reloading import Failure
from meshlb.wire.versions import ALL_FEATURES, NO_FEATURES


def iso(wall_s: float) -> str:
    """A time of the wall clock as ISO 8601, UTC."""
    return datetime.fromtimestamp(wall_s, UTC).isoformat(timespec="milliseconds")


def config_view(loaded_at: float, failure: Failure | None) -> ConfigView:
    """When the configuration was read, and what has come of it since."""
    if failure is None:
        return ConfigView(loaded_at=iso(loaded_at))
    return ConfigView(loaded_at=iso(loaded_at), failed_at=iso(failure.at), faults=failure.faults)


def upgrade_view(failed_at: float | None, reason: str) -> UpgradeView:
    """What has come of the last upgrade, where this process is still the one that serves."""
    return UpgradeView(failed_at=None if failed_at is None else iso(failed_at), reason=reason)


def members_by_state(members: Iterable[Member]) -> dict[str, int]:
    """How many members are in each state."""
    counts = Counter(member.state for member in members)
    return {state.name.lower(): counts[state] for state in MemberState}


def span(member: Member) -> tuple[int, int] | None:
    """The lowest and the highest version that a member speaks; None where nobody has said so."""
    spoken = member.versions
    return None if spoken is None else (spoken.lowest, spoken.highest)


def features(member: Member) -> tuple[str, ...]:
    """Those of a member's features that this node knows too."""
    known = ALL_FEATURES & (member.versions.features if member.versions else NO_FEATURES)
    return tuple(str(feature.name).lower() for feature in known)


def heal(ended: Heal) -> HealView:
    """The end of a partition."""
    return HealView(
        at=iso(ended.began_at),
        members=tuple(sorted(ended.members)),
        over=ended.is_over,
        pins_moved=ended.moved,
        moves=tuple(
            MoveView(
                key=move.key.hex(),
                pool=move.pool,
                moved_from=move.moved_from,
                moved_to=move.moved_to,
            )
            for move in ended.moves
        ),
    )


def pin(key: SessionKey, held: Pin, now: float) -> PinView:
    """A pin in a list of pins."""
    return PinView(
        key=key.hex(),
        pool=held.pool,
        backend=held.backend,
        by=held.by.value,
        epoch=held.epoch,
        rank=held.rank.name.lower(),
        made_by=held.claimer,
        made_at=iso(held.stamp_ms / 1000),
        expires_in_s=max(0.0, held.expires_at - now),
    )


def explanation(key: str, story: KeyStory, *, backend_state: str, now: float) -> Explanation:
    """Why `key`, as a client sends it, goes where it goes."""
    held = story.pin
    return Explanation(
        key=key,
        pool=held.pool,
        backend=held.backend,
        by=held.by.value,
        made_by=held.claimer,
        made_at=iso(held.stamp_ms / 1000),
        epoch=held.epoch,
        rank=held.rank.name.lower(),
        expires_in_s=max(0.0, held.expires_at - now),
        home=story.home or "",
        backup=story.backup or "",
        backend_state=backend_state,
        history=tuple(PinChange(at=iso(note.at), what=note.what) for note in story.notes),
    )
