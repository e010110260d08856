"""Rise and fall: how many probe results in a row change a backend's health.

Owns the count, and nothing of how or when a probe is made.

    state        good result                    failed result
    not probed   UP                             DOWN
    UP           UP, failures forgotten         DOWN after `fall` in a row
    DOWN         UP after `rise` in a row       DOWN, successes forgotten
"""


class Health:
    """The health of one backend, by its probes."""

    __slots__ = ("_against", "_fall", "_rise", "_up")

    def __init__(self, *, rise: int, fall: int, up: bool | None = None) -> None:
        """Begin.

        Args:
            rise: good results in a row that bring the backend up; from 1.
            fall: failed results in a row that take it down; from 1.
            up: what is known already; None: the first result decides.
        """
        assert rise >= 1
        assert fall >= 1
        self._rise = rise
        self._fall = fall
        self._up = up
        self._against = 0

    def record(self, *, good: bool) -> bool:
        """Add a result. Returns whether the backend is up now."""
        if self._up is None or good is self._up:
            self._up = good
            self._against = 0
            return good
        self._against += 1
        if self._against >= (self._rise if good else self._fall):
            self._up = good
            self._against = 0
        return self._up
