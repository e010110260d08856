"""Builders for tests of membership: members a, b, c … at 10.0.0.1, 10.0.0.2, 10.0.0.3 …"""

from random import Random
from typing import Any

from meshlb.core.swim import LAN, Effect, Member, Membership, SendDatagram, SendStream, StreamOpened
from meshlb.model import Address, BootId, MemberState, NodeName
from meshlb.wire.messages import MemberUpdate, Message
from meshlb.wire.versions import OURS

ALIVE, SUSPECT, DEAD, LEFT = MemberState


def address_of(name: str) -> Address:
    return Address(f"10.0.0.{ord(name[0]) - ord('a') + 1}", 7946)


def told(
    name: str, state: MemberState = ALIVE, incarnation: int = 1, /, **fields: Any
) -> MemberUpdate:
    """What somebody says of a member; by default what the member itself says."""
    defaults = {
        "name": NodeName(name),
        "address": address_of(name),
        "boot_id": BootId(ord(name[0])),
        "incarnation": incarnation,
        "state": state,
        "synced": False,
        "reporter": NodeName(name),
        "version_min": OURS.lowest,
        "version_max": OURS.highest,
        "features": int(OURS.features),
    }
    return MemberUpdate(**{**defaults, **fields})


def member(name: str, state: MemberState = ALIVE, incarnation: int = 1, /, **fields: Any) -> Member:
    since = fields.pop("since", 0.0)
    return Member.told(told(name, state, incarnation, **fields), since)


def membership(name: str = "a", /, **fields: Any) -> Membership:
    """A machine that knows only itself."""
    defaults = {
        "name": NodeName(name),
        "address": address_of(name),
        "boot_id": BootId(ord(name[0])),
        "incarnation": 1,
        "timings": LAN,
        "rng": Random(1),
        "now": 0.0,
    }
    return Membership(**{**defaults, **fields})


def open_stream(machine: Membership, peer: str, now: float = 0.0) -> list[Effect]:
    return machine.receive(StreamOpened(NodeName(peer)), now)


def state_of(machine: Membership, name: str) -> MemberState | None:
    return {known.name: known.state for known in machine.members()}.get(NodeName(name))


def sent_to(effects: list[Effect], peer: str) -> list[Message]:
    """All messages to `peer`, by datagram and by stream."""
    return [
        message
        for effect in effects
        if isinstance(effect, SendDatagram | SendStream) and effect.peer == peer
        for message in effect.messages
    ]


def only(kind: type, effects: list[Effect]) -> list[Any]:
    return [effect for effect in effects if isinstance(effect, kind)]
