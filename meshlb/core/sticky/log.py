"""The replication log: what this node tells all others about pins, in order.

Owns the numbered entries of this boot and how far each peer has been sent and has acknowledged
them. Must not know how deltas travel, nor where pins are stored.

A pin that changes again before a peer has read it travels once: its older entry is dropped. The
log is bounded, and a peer that falls behind its oldest entry sees a gap in the next delta and
pulls the table; nobody waits for it. An entry keeps absolute times, which become durations when
a delta is cut.

Spec: protocol/spec/pins.md, "Replication".
"""

from dataclasses import dataclass

from meshlb.core.sticky.pin import Pin, record_from_pin
from meshlb.model import BootId, NodeName, SessionKey
from meshlb.wire.messages import Delta, PinRecord

LOG_ENTRIES_MAX = 65_536
"""What a joining or reconnecting peer can catch up on without a pull: 13 s at 5,000 pins/s."""

SPAN_PER_ENTRY_MAX = 4
"""Numbers that the log spans for each entry it may hold: bounds what superseding leaves behind."""

DELTA_PINS_MAX = 200
"""Pins in one delta."""

DELTA_SPAN_MAX = 4_096
"""Sequence numbers that one delta covers: bounds the walk over dropped entries."""


@dataclass(slots=True)
class _Reader:
    """How far a peer is."""

    sent_seq: int
    acked_seq: int


class ReplicationLog:
    """Numbers entries from 1; 0 is the position of who has read nothing."""

    def __init__(self, boot_id: BootId, *, entries_max: int = LOG_ENTRIES_MAX) -> None:
        self.boot_id = boot_id
        self._entries_max = entries_max
        self._entries: dict[int, tuple[SessionKey, Pin]] = {}
        self._seq_by_key: dict[SessionKey, int] = {}
        self._last_seq = 0
        self._trimmed_seq = 0
        self._readers: dict[NodeName, _Reader] = {}
        self._cut: Delta | None = None
        self._cut_at = (0, 0, 0.0)
        """What `_cut` follows, the end of the log by then, and the time."""

    def __len__(self) -> int:
        """Entries held; never more than `entries_max`."""
        return len(self._entries)

    @property
    def last_seq(self) -> int:
        """The number of the latest entry."""
        return self._last_seq

    def append(self, key: SessionKey, pin: Pin) -> int:
        """Add an entry, in place of an older one of the same key; its number."""
        superseded = self._seq_by_key.pop(key, 0)
        if superseded:
            del self._entries[superseded]
        self._last_seq += 1
        self._entries[self._last_seq] = (key, pin)
        self._seq_by_key[key] = self._last_seq
        span_max = SPAN_PER_ENTRY_MAX * self._entries_max
        while (
            len(self._entries) > self._entries_max or self._last_seq - self._trimmed_seq > span_max
        ):
            self._trim_next()
        return self._last_seq

    def _trim_next(self) -> None:
        self._trimmed_seq += 1
        entry = self._entries.pop(self._trimmed_seq, None)
        if entry is not None:
            del self._seq_by_key[entry[0]]

    # Peers -------------------------------------------------------------------------------

    def open(self, peer: NodeName, boot_id: int, seq: int) -> bool:
        """A new stream, whose first word is that `peer` has our log up to `seq`.

        Returns:
            True where the log can continue there; False where `peer` will have to pull.
        """
        if boot_id != self.boot_id or seq > self._last_seq:
            seq = 0
        self._readers[peer] = _Reader(sent_seq=seq, acked_seq=seq)
        return seq >= self._trimmed_seq

    def close(self, peer: NodeName) -> None:
        """The stream is gone; the peer will say anew where it is."""
        self._readers.pop(peer, None)

    def ack(self, peer: NodeName, boot_id: int, seq: int) -> None:
        """`peer` has merged everything up to `seq`; cumulative, so older acks change nothing."""
        reader = self._readers.get(peer)
        if reader is not None and boot_id == self.boot_id:
            reader.acked_seq = max(reader.acked_seq, min(seq, reader.sent_seq))

    def next_delta(self, peer: NodeName, now: float) -> Delta | None:
        """The next batch for `peer`, which then counts as sent; None where it has everything."""
        reader = self._readers.get(peer)
        if reader is None:
            return None
        delta = self.since(reader.sent_seq, now)
        if delta is not None:
            reader.sent_seq = delta.upto_seq
        return delta

    def sent_seq(self, peer: NodeName) -> int | None:
        """How far the present stream of `peer` goes; None where it has not said where it is."""
        reader = self._readers.get(peer)
        return None if reader is None else reader.sent_seq

    def unread(self, peer: NodeName) -> int:
        """Numbers that `peer` has not acknowledged yet; everything where no stream is open."""
        reader = self._readers.get(peer)
        return self._last_seq - (reader.acked_seq if reader is not None else 0)

    def waiting_for(self, seq: int) -> frozenset[NodeName]:
        """The connected peers that have not acknowledged entry `seq` yet."""
        return frozenset(peer for peer, reader in self._readers.items() if reader.acked_seq < seq)

    # Reading -----------------------------------------------------------------------------

    def since(self, seq: int, now: float) -> Delta | None:
        """The batch that follows `seq`; None where nothing does.

        Its `after_seq` is greater than `seq` where entries after `seq` have been trimmed: the
        reader then has a gap, and pulls.
        """
        after_seq = max(seq, self._trimmed_seq)
        if after_seq >= self._last_seq:
            return None
        if self._cut_at != (after_seq, self._last_seq, now):  # peers are mostly equally far
            self._cut_at = (after_seq, self._last_seq, now)
            self._cut = self._delta(after_seq, now)
        return self._cut

    def _delta(self, after_seq: int, now: float) -> Delta:
        pins: list[PinRecord] = []
        upto_seq = after_seq
        span_end = min(self._last_seq, after_seq + DELTA_SPAN_MAX)
        while upto_seq < span_end and len(pins) < DELTA_PINS_MAX:
            upto_seq += 1
            entry = self._entries.get(upto_seq)
            if entry is not None:
                pins.append(record_from_pin(*entry, now=now))
        return Delta(self.boot_id, after_seq, upto_seq, tuple(pins))
