"""Connections to backends that nobody has needed for a while: they go.

Owns how long one may wait for its next request. A backend closes it at some time of its own, and
the nearer that is, the more requests meet it in that moment; and after a storm of clients the
descriptors come back. It looks seldom, so that no request pays for it.
"""

from collections.abc import Callable, Iterable

from meshlb.net.reactor import Reactor
from meshlb.proxy.backend import Backend

IDLE_S_MAX = 50.0
"""Below the 60 or 75 s that many servers grant; those that grant less close by themselves."""

LOOK_EVERY_S = 5.0


class Idleness:
    """Closes them, from `watch` on until `stop`."""

    def __init__(self, reactor: Reactor, backends: Callable[[], Iterable[Backend]]) -> None:
        """Look after all that `backends` gives, each time anew."""
        self._reactor = reactor
        self._backends = backends
        self._stopped = False

    def watch(self) -> None:
        """Begin."""
        self._reactor.schedule(self, self._reactor.now + LOOK_EVERY_S)

    def stop(self) -> None:
        """End."""
        self._stopped = True

    def check_deadline(self, now: float) -> float | None:
        """Close what has waited for too long."""
        if self._stopped:
            return None
        for backend in self._backends():
            backend.close_idle(since=now - IDLE_S_MAX)
        return now + LOOK_EVERY_S

    def abort(self) -> None:
        """The reactor's last resort: look no more."""
        self.stop()
