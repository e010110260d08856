"""The listening socket of a listener: lets clients in, and can be exchanged while it does.

It accepts in the reactor, a bounded number at a time. At its limit, or out of descriptors, it
stops accepting for a moment and leaves the newcomers in the kernel's queue: a client that waits
is better off than one that is refused, and better than a node that falls over. What becomes of
a client is for whoever welcomes it.
"""

import socket
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Protocol

import structlog

from meshlb.errors import ListenError
from meshlb.net.reactor import READ, Reactor
from meshlb.net.sockets import (
    BACKLOG_CONNECTIONS,
    OUT_OF_RESOURCES,
    accept,
    address_of,
    describe,
    no_delay,
)
from meshlb.proxy.counters import ListenerCounters

ACCEPTS_PER_EVENT_MAX = 64
ACCEPT_PAUSE_S = 0.1

log = structlog.get_logger()


class Turn(Protocol):
    """Whose turn it is to let the next client in, where several processes share a socket."""

    def yields(self) -> bool:
        """Others have fewer clients than this process, and shall let the next one in."""
        ...

    def later(self, resume: Callable[[], None]) -> None:
        """Call `resume` after a moment, in which others had their chance."""
        ...


class Door(ABC):
    """The socket of one `[[listener]]`.

    Attributes:
        name: of the listener.
        address: where clients connect; the port is a number, also where 0 was asked for.
        tally: of the listener.
    """

    def __init__(
        self,
        name: str,
        sock: socket.socket,
        reactor: Reactor,
        tally: ListenerCounters,
        *,
        accepts_max: int,
        turn: Turn | None = None,
    ) -> None:
        """Own a bound socket; `listen` lets clients in. `turn`: None where nobody shares it."""
        self.name = name
        self.reactor = reactor
        self.tally = tally
        self.take(sock)
        self._accepts_max = accepts_max
        self._turn = turn
        self._accepting = False
        self._paused = False

    def take(self, sock: socket.socket) -> None:
        """Own `sock`, and accept there after `listen`; it may be the one it has already."""
        self._sock: socket.socket | None = sock
        self._family = sock.family
        self.address = address_of(sock)

    @abstractmethod
    def welcome(self, sock: socket.socket, peer: str) -> None:
        """Somebody has connected."""

    @abstractmethod
    def is_full(self) -> bool:
        """Whether there are as many clients as there may be."""

    @property
    def sock(self) -> socket.socket | None:
        """The listening socket, still the frontend's; None once it has stopped accepting."""
        return self._sock

    def listen(self) -> None:
        """Accept from now on; not if the node has begun to leave meanwhile.

        Raises:
            ListenError: somebody else listens on the address after all.
        """
        if self._sock is None or self._accepting:
            return
        try:
            no_delay(self._sock)
            self._sock.listen(BACKLOG_CONNECTIONS)
        except OSError as error:
            raise ListenError(f"cannot listen on {self.address}: {describe(error)}") from error
        if not self._accepts_max:
            return
        self._accepting = True
        self.reactor.register(self._sock.fileno(), self._on_newcomers)

    def give_up(self, *, close: bool) -> None:
        """Accept no longer on the present socket; clients that are connected stay.

        Args:
            close: nobody else goes on with it: those who wait at it are let in first.
        """
        if close:
            self.accept_waiting()
            self.stop_accepting()
        elif self._sock is not None:
            self._accepting = False
            self.reactor.unregister(self._sock.fileno())
            self._sock = None

    def leave_waiting(self) -> None:
        """Accept nobody before `listen` is called again: they wait in the kernel's queue."""
        if self._sock is not None:
            self._accepting = False
            self.reactor.unregister(self._sock.fileno())

    def accept_waiting(self) -> None:
        """Let in all who have connected already."""
        left = BACKLOG_CONNECTIONS
        while self._accepting and left > 0 and self._accept():
            left -= self._accepts_max

    def _on_newcomers(self, event: int) -> None:
        turn, sock = self._turn, self._sock
        if turn is not None and sock is not None and turn.yields():
            self.reactor.watch(sock.fileno(), 0)
            turn.later(partial(self._resume, sock))
        else:
            self._accept()

    def _resume(self, sock: socket.socket) -> None:
        if self._sock is sock and self._accepting and not self._paused:
            self.reactor.watch(sock.fileno(), READ)

    def _accept(self) -> bool:
        """Let newcomers in; True where there may be more of them."""
        for _ in range(self._accepts_max):
            if self._sock is None:
                return False
            if self.is_full():
                self._pause("the limit of connections is reached")
                return False
            try:
                sock, peer = accept(self._sock, self._family)
            except BlockingIOError:
                return False
            except OSError as error:
                if error.errno in OUT_OF_RESOURCES:
                    self._pause("the node is out of descriptors or memory")
                    return False
                continue
            self.welcome(sock, peer)
        return True

    def _pause(self, reason: str) -> None:
        """Stop accepting for a moment."""
        if not self._paused and self._sock is not None:
            self._paused = True
            self.tally.pauses += 1
            log.warning("listener pauses", listener=self.name, reason=reason)
            self.reactor.watch(self._sock.fileno(), 0)
            self.reactor.schedule(self, self.reactor.now + ACCEPT_PAUSE_S)

    def check_deadline(self, now: float) -> float | None:
        """The end of a pause."""
        if self._sock is not None:
            if self.is_full():
                return now + ACCEPT_PAUSE_S
            if self._accepting:
                self.reactor.watch(self._sock.fileno(), READ)
        self._paused = False
        return None

    def abort(self) -> None:
        """The reactor's last resort: the listening socket failed."""
        self.stop_accepting()

    def stop_accepting(self) -> None:
        """Close the listening socket; clients that are connected stay."""
        if self._sock is not None:
            self._accepting = False
            self.reactor.unregister(self._sock.fileno())
            self._sock.close()
            self._sock = None
