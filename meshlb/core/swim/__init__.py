"""Membership: who is in the cluster and who is thought to be alive (SWIM with Lifeguard)."""

from meshlb.core.swim.events import (
    Contact,
    DatagramReceived,
    Effect,
    Event,
    Lagged,
    MemberChanged,
    Refused,
    SendDatagram,
    SendStream,
    StreamClosed,
    StreamOpened,
    StreamReceived,
    ViewChanged,
)
from meshlb.core.swim.member import Member, Outcome
from meshlb.core.swim.membership import Membership
from meshlb.core.swim.timings import LAN, LOCAL, PROFILES, WAN, Timings

__all__ = [
    "LAN",
    "LOCAL",
    "PROFILES",
    "WAN",
    "Contact",
    "DatagramReceived",
    "Effect",
    "Event",
    "Lagged",
    "Member",
    "MemberChanged",
    "Membership",
    "Outcome",
    "Refused",
    "SendDatagram",
    "SendStream",
    "StreamClosed",
    "StreamOpened",
    "StreamReceived",
    "Timings",
    "ViewChanged",
]
