"""Time-outs for many connections at the cost of a few: lazy, coarse, bounded.

A connection does not tell anyone when it makes progress; it only notes the time. It sits in
one bucket of a wheel, and when the bucket comes up it is asked when it wants to be asked again.
So a busy keep-alive connection pays for its time-outs once every few seconds, not once a request.
One that ends soon is forgotten: what it held is still in the processor's caches for the next one.
Knows nothing of sockets; time is an argument.
"""

from typing import Protocol

from meshlb.net.last_resort import Abortable, end_failed

TICK_S = 0.1
"""Width of a bucket: a time-out is up to this much late."""


class Expiring(Abortable, Protocol):
    """Something with time-outs."""

    def check_deadline(self, now: float) -> float | None:
        """Act on time-outs that have passed; return when to ask again, None for never.

        The answer must not be later than the earliest time-out that a change of phase
        between now and then could bring.
        """
        ...


class Deadlines:
    """A wheel of buckets; `next_at` is when `expire` has something to do (inf: nothing)."""

    def __init__(self) -> None:
        self._buckets: dict[int, dict[Expiring, None]] = {}
        self.next_at = float("inf")

    def add(self, subject: Expiring, at: float) -> int:
        """Ask `subject` at `at` (monotonic seconds) or up to `TICK_S` later.

        Returns:
            Its tick, for `forget`.
        """
        tick = int(at / TICK_S) + 1
        bucket = self._buckets.get(tick)
        if bucket is None:
            self._buckets[tick] = {subject: None}
            self.next_at = min(self.next_at, tick * TICK_S)
        else:
            bucket[subject] = None
        return tick

    def forget(self, subject: Expiring, tick: int) -> None:
        """Do not ask `subject` at `tick`; if it was asked then, nothing changes."""
        bucket = self._buckets.get(tick)
        if bucket is not None:
            bucket.pop(subject, None)

    def expire(self, now: float) -> None:
        """Ask every subject whose time has come."""
        due = [tick for tick in self._buckets if tick * TICK_S <= now]
        for tick in sorted(due):
            for subject in self._buckets.pop(tick):
                try:
                    again_at = subject.check_deadline(now)
                except Exception:
                    end_failed(subject)
                    continue
                if again_at is not None:
                    self.add(subject, max(again_at, now))
        self.next_at = min(self._buckets, default=float("inf")) * TICK_S
