"""How well this node itself is: its own slowness must not be blamed on others (Lifeguard).

Owns: the local health score and the account of measured lag.
Must not know: other members. Spec: protocol/spec/membership.md, "Local health".
"""

from typing import Final

SCORE_MAX: Final = 8
"""The worst score; probes then take nine times as long."""

LAG_NOTED_S: Final = 0.05
"""A loop later than this is a lag; less is the ordinary jitter of a scheduler."""


class Health:
    """A score from 0, well, to SCORE_MAX; and how much lag was already credited."""

    def __init__(self, *, lag_ill_s: float) -> None:
        self._score = 0
        self._lag_ill_s = lag_ill_s
        """Lag from here on lowers the score: pings of others go unanswered this long."""
        self._credited_until = float("-inf")

    @property
    def score(self) -> int:
        """0 is well."""
        return self._score

    @property
    def scale(self) -> int:
        """What probe intervals and time-outs are multiplied by."""
        return 1 + self._score

    def probe_succeeded(self) -> None:
        """A probe was answered in time."""
        self._add(-1)

    def probe_failed(self, *, nacks_missing: int, helpers: int) -> None:
        """A probe failed. Helpers that are silent too make this node the likely culprit."""
        self._add(nacks_missing if helpers else 1)

    def was_accused(self) -> None:
        """Others suspected this node, so it answers slowly."""
        self._add(1)

    def credit_lag(self, *, since: float, now: float) -> float:
        """Note that this node was late from `since` to `now`; what of it is news, in seconds.

        The loop's ticker and a late timer report the same standstill: it counts once.
        """
        lag_s = now - max(since, self._credited_until)
        if now - since < LAG_NOTED_S or lag_s <= 0:
            return 0.0
        self._credited_until = now
        if lag_s >= self._lag_ill_s:
            self._add(1)
        return lag_s

    def _add(self, amount: int) -> None:
        self._score = max(0, min(SCORE_MAX, self._score + amount))
