"""A UDP listener at run time: tells datagrams by their source, and sends answers back.

Owns the listening socket and the table of flows. Who has not sent for the longest time makes room
for a newcomer: sources can be forged, so a full table must not shut out those who come next.
Answers go out from the address that the client has sent to, also where the listener is bound to
all of them. It has the same face as a `Frontend`, as far as the data plane looks.
"""

import socket
from collections import OrderedDict

import structlog
import trio

from meshlb.config.schema import ListenerSettings
from meshlb.net.datagrams import (
    DATAGRAM_BYTES_MAX,
    Ancillary,
    Source,
    receive,
    tell_destinations,
)
from meshlb.net.last_resort import end_failed
from meshlb.net.reactor import Reactor
from meshlb.net.sockets import address_of
from meshlb.proxy.counters import ListenerCounters, ProxyCounters
from meshlb.proxy.frontend import RECHECK_S_MAX
from meshlb.proxy.pool import Pool
from meshlb.proxy.tunnels import RENEWALS_PER_TTL
from meshlb.proxy.udp_flow import DRAIN_QUIET_S, UdpFlow

DATAGRAMS_PER_EVENT_MAX = 64
"""Read at a time; then others have their turn."""

WAITING_BYTES_MAX = 4 << 20
"""Of all datagrams of a listener that wait for a decision."""

log = structlog.get_logger()


class UdpFrontend:
    """The run-time side of one `[[listener]]` with `protocol = "udp"`.

    Attributes:
        buffer: where datagrams are read into, one at a time.
        draining: no new flows, and those there are end when they fall silent.
        recheck_s: how often a flow is asked for its time-outs.
        tls: datagrams have none.
    """

    def __init__(
        self,
        settings: ListenerSettings,
        pool: Pool,
        sock: socket.socket,
        *,
        reactor: Reactor,
        nursery: trio.Nursery,
        table_ahead_s: float,
        counters: ProxyCounters,
        serves_datagrams: bool,
    ) -> None:
        """Wire a listener; `listen` lets datagrams in.

        Args:
            settings: from the configuration.
            pool: answers.
            sock: bound; the frontend owns it.
            reactor: tells of datagrams.
            nursery: for the tasks of flows that look up a name.
            table_ahead_s: by how much table time is ahead of trio's clock.
            counters: of the process.
            serves_datagrams: False: another process reads this socket.
        """
        self.name = settings.name
        self.reactor = reactor
        self.nursery = nursery
        self.table_ahead_s = table_ahead_s
        self.counters = counters
        self.tally = counters.listeners.setdefault(settings.name, ListenerCounters())
        self.buffer = bytearray(DATAGRAM_BYTES_MAX)
        self.draining = False
        self.tls = None
        self._view = memoryview(self.buffer)
        self._serves = serves_datagrams
        self._flows: OrderedDict[object, UdpFlow] = OrderedDict()
        self._waiting_bytes = 0
        self._sock: socket.socket | None = sock
        self._reading = False
        self._is_wildcard = False
        self._emptied = trio.Event()
        self._emptied.set()
        self.address = address_of(sock)
        self.use(settings, pool)

    def use(
        self, settings: ListenerSettings, pool: Pool, *, tls: object = None, routes: object = None
    ) -> None:
        """Serve by other settings from now on; flows stay where they are. UDP has no TLS."""
        self._settings = settings
        self.timeouts = settings.timeouts
        self.recheck_s = min(
            RECHECK_S_MAX,
            settings.timeouts.idle_s,
            *(rule.ttl_s / RENEWALS_PER_TTL for rule in pool.rules),
        )
        self.router = pool.router
        self.dispatcher = pool.dispatcher

    @property
    def settings(self) -> ListenerSettings:
        """What it serves by."""
        return self._settings

    @property
    def sock(self) -> socket.socket | None:
        """The socket; None once it has been given up."""
        return self._sock

    @property
    def table_now(self) -> float:
        """The table's time."""
        return self.reactor.now + self.table_ahead_s

    def listen(self) -> None:
        """Take datagrams from now on."""
        if self._sock is not None and self._serves and not self._reading:
            self._reading = True
            self._is_wildcard = self.address.host in ("0.0.0.0", "::")
            if self._is_wildcard:
                tell_destinations(self._sock)
            self.reactor.register(self._sock.fileno(), self._on_datagrams)

    def take(self, sock: socket.socket) -> None:
        """Own `sock`; it may be the one it has already."""
        self._sock = sock
        self.address = address_of(sock)

    def give_up(self, *, close: bool) -> None:
        """Leave the present socket; its flows end, for nothing could answer them.

        Args:
            close: nobody else goes on with it.
        """
        self.close_all()
        if close:
            self.stop_accepting()
        elif self._sock is not None:
            self._stop_reading()
            self._sock = None

    def park(self) -> None:
        """Leave what comes in the kernel's queue, for another process or for `unpark`."""
        self._stop_reading()

    def unpark(self) -> None:
        """Go on after `park`."""
        self.listen()

    def _on_datagrams(self, event: int) -> None:
        for _ in range(DATAGRAMS_PER_EVENT_MAX):
            if self._sock is None:
                return
            try:
                if self._is_wildcard:
                    size, source, answering = receive(self._sock, self.buffer)
                else:
                    size, source = self._sock.recvfrom_into(self.buffer)
                    answering = []
            except BlockingIOError:
                return
            except OSError:
                continue  # What became of an answer; it is nobody's fault here.
            self._pass(size, source, answering)

    def _pass(self, size: int, source: Source, answering: Ancillary) -> None:
        key = (source, answering[0][2]) if answering else source
        flow = self._flows.get(key)
        if flow is not None:
            self._flows.move_to_end(key)
        elif self.draining:
            self.count_dropped("draining")
            return
        else:
            flow = self._begin(key, source, answering)
        try:
            flow.take(self._view[:size])
        except Exception:
            end_failed(flow)

    def _begin(self, key: object, source: Source, answering: Ancillary) -> UdpFlow:
        if len(self._flows) >= self._settings.max_connections:
            self.count_dropped("flow-evicted")
            next(iter(self._flows.values())).close()
        if not self._flows:
            self._emptied = trio.Event()
        flow = self._flows[key] = UdpFlow(self, key, source, answering)
        self.tally.accepted += 1
        self.tally.connections = len(self._flows)
        return flow

    def reply(self, source: Source, answering: Ancillary, size: int) -> None:
        """Send the first `size` bytes of the buffer to a client."""
        if self._sock is None:
            return
        try:
            if answering:
                self._sock.sendmsg([self._view[:size]], answering, 0, source)
            else:
                self._sock.sendto(self._view[:size], source)
        except OSError:
            self.count_dropped("unsent")
        else:
            self.counters.relayed_down_bytes += size

    def may_wait(self, size_bytes: int) -> bool:
        """Whether a datagram may wait; then it is counted until `waits_no_longer`."""
        if self._waiting_bytes + size_bytes > WAITING_BYTES_MAX:
            return False
        self._waiting_bytes += size_bytes
        return True

    def waits_no_longer(self, size_bytes: int) -> None:
        """So many bytes have gone on, or are dropped."""
        self._waiting_bytes -= size_bytes

    def count_dropped(self, reason: str, datagrams: int = 1) -> None:
        """Some datagrams, or a flow, were dropped."""
        if datagrams:
            self.counters.datagrams_dropped[reason] += datagrams

    def forget(self, flow: UdpFlow) -> None:
        """The flow has ended."""
        if self._flows.get(flow.key) is flow:
            del self._flows[flow.key]
        self.tally.connections = len(self._flows)
        if not self._flows:
            self._emptied.set()

    def abort(self) -> None:
        """The reactor's last resort: the socket failed."""
        self.stop_accepting()

    def stop_accepting(self) -> None:
        """Close the socket."""
        self._stop_reading()
        if self._sock is not None:
            self._sock.close()
            self._sock = None

    def _stop_reading(self) -> None:
        if self._reading and self._sock is not None:
            self._reading = False
            self.reactor.unregister(self._sock.fileno())

    def drain(self) -> None:
        """No new flows; those there are go on until they fall silent."""
        self.draining = True
        self.reactor.catch_up()
        for flow in list(self._flows.values()):
            self.reactor.schedule(flow, self.reactor.now + DRAIN_QUIET_S)

    @property
    def serves(self) -> bool:
        """Whether a flow is left."""
        return bool(self._flows)

    async def wait_empty(self) -> None:
        """Return when no flow is left."""
        await self._emptied.wait()

    def close_all(self) -> None:
        """End every flow."""
        for flow in list(self._flows.values()):
            flow.close()
