"""What is told to every member: one message, its acknowledgement, and what they are about.

Owns the shape, as `messages` does for all others.

Spec: protocol/spec/broadcast.md.
"""

from dataclasses import dataclass
from typing import NewType

Topic = NewType("Topic", str)
"""What a broadcast is about: who handles it."""

Payload = NewType("Payload", bytes)
"""At most 16 KiB; only the topic's handler knows what they mean."""


@dataclass(frozen=True, slots=True)
class Broadcast:
    """Something for every member; answered by a BroadcastAck once it is handled."""

    number: int
    """Of this boot of the sender. The same number again is the same broadcast again."""
    topic: Topic
    payload: Payload


@dataclass(frozen=True, slots=True)
class BroadcastAck:
    """The broadcast is handled here."""

    number: int
