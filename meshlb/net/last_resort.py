"""What is done with a connection that struck a bug: it ends, and nothing else does.

Owns the last line of defence of whatever moves bytes. Whoever runs the code of one connection (the
reactor, the wheel of time-outs, a connection's task) calls it with what failed.
"""

from typing import Protocol

import structlog

log = structlog.get_logger()


class Abortable(Protocol):
    """A connection, or whatever else can be ended at once."""

    def abort(self) -> None:
        """End it, and give back what it holds."""
        ...


def end_failed(subject: Abortable) -> None:
    """Log the exception that is being handled, and end `subject`."""
    log.exception("a connection failed", kind=type(subject).__name__)
    try:
        subject.abort()
    except Exception:
        log.exception("could not end a failed connection", kind=type(subject).__name__)
