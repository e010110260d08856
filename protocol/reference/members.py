"""Which report of a member stays, who may own slots, and who holds each.

Spec: ../spec/membership.md, "Merge" and "View"; ../spec/pins.md, "Homes".
"""

from collections.abc import Iterable
from typing import Any

from protocol.reference.messages import SCHEMA
from protocol.reference.primitives import blake2b

Report = dict[str, Any]
"""A MemberUpdate as the vectors write it."""

STATE: dict[str, int] = SCHEMA["enum"]["MemberState"]
LIVE = (STATE["ALIVE"], STATE["SUSPECT"])
SLOT_BITS = 10


def newer(one: Report, other: Report) -> Report:
    """M1: which of two reports of one name is kept."""
    return max(one, other, key=lambda said: (said["incarnation"], said["boot_id"], said["state"]))


def owners(members: Iterable[Report]) -> list[Report]:
    """V1."""
    may_own = [said for said in members if said["state"] in LIVE and said["synced"]]
    return sorted(may_own, key=lambda said: str(said["name"]).encode())


def view_id(members: Iterable[Report]) -> int:
    """V2."""
    named = b"".join(
        said["name"].encode() + b"\0" + said["boot_id"].to_bytes(8, "big")
        for said in owners(members)
    )
    return int.from_bytes(blake2b(named, size=8), "big")


def is_quorate(members: Iterable[Report], *, unmet: int) -> bool:
    """V3; `unmet`: addresses to join by at which nobody was met."""
    states = [said["state"] for said in members]
    live = sum(state in LIVE for state in states)
    return 2 * live > sum(state != STATE["LEFT"] for state in states) + unmet


def slot(key: bytes) -> int:
    """O1."""
    return int.from_bytes(key[:2], "big") >> 16 - SLOT_BITS


def holders(names: Iterable[str], of_slot: int) -> list[str]:
    """O2: the owners, home first."""

    def weight(name: str) -> tuple[bytes, bytes]:
        message = of_slot.to_bytes(2, "big") + name.encode()
        return blake2b(message, size=8, person=b"meshlb-slot"), name.encode()

    return sorted(names, key=weight, reverse=True)
