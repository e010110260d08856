"""Active health checks: one trio task a backend probes it and tells its rise/fall machine.

A probe is a TCP connect or an HTTP GET, each on a connection of its own, so that it measures what
a new client would meet. The very first probe counts for itself: a backend that is dead at the
start is down at once. A connect that failed in the data plane brings the next probe forward.
"""

import random
from collections.abc import Iterable
from dataclasses import dataclass, field

import httpx
import structlog
import trio

from meshlb.config.schema import HealthSettings
from meshlb.core.balance.health import Health
from meshlb.core.proxy_protocol import write_own_header
from meshlb.errors import UpstreamError
from meshlb.model import PoolName
from meshlb.net.datagrams import look_at_port
from meshlb.net.sockets import OUT_OF_RESOURCES
from meshlb.net.tls_client import ClientTls, connect
from meshlb.proxy.backend import Backend
from meshlb.proxy.pool import Pool
from meshlb.proxy.probe_transport import ProbeTransport

JITTER_FRACTION = 0.1
"""Probes of many nodes must not fall into step."""

log = structlog.get_logger()


@dataclass(slots=True)
class _Watch:
    """The probing of one backend.

    `health` knows whether the backend is up, where it was probed already.
    """

    pool: PoolName
    settings: HealthSettings
    first: bytes
    """What a connection begins with."""
    tls: ClientTls | None
    """How it goes on."""
    health: Health
    doubted: trio.Event = field(default_factory=trio.Event)
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)


class Prober:
    """Probes the backends that it is told to follow."""

    def __init__(self, pools: Iterable[Pool]) -> None:
        self._watches: dict[Backend, _Watch] = {}
        self._unprobed: set[Backend] = set()
        self._all_probed = trio.Event()
        self._nursery: trio.Nursery | None = None
        for pool in pools:
            for backend in pool.backends.values():
                self._unprobed.add(backend)
                health = Health(rise=pool.settings.health.rise, fall=pool.settings.health.fall)
                self._watches[backend] = _Watch(
                    pool.name, pool.settings.health, _first_bytes(pool), pool.tls, health
                )
        self._probed()

    async def wait_first_round(self) -> None:
        """Return when every backend has been probed once."""
        await self._all_probed.wait()

    def doubt(self, backend: Backend) -> None:
        """A connect to `backend` failed: probe it now."""
        watch = self._watches.get(backend)
        if watch is not None:
            watch.doubted.set()

    async def look_at_new(self, pools: Iterable[Pool]) -> None:
        """Probe once, side by side, the backends that are not followed yet: are they well?"""
        async with _transport() as transport, trio.open_nursery() as nursery:
            for pool in pools:
                for backend in pool.backends.values():
                    if backend not in self._watches:
                        nursery.start_soon(_look, backend, pool, transport)

    def follow(self, pools: Iterable[Pool]) -> None:
        """Probe the backends of `pools` from now on, and no others; what is known stays known."""
        wanted = {backend: pool for pool in pools for backend in pool.backends.values()}
        for backend in [b for b in self._watches if b not in wanted]:
            self._watches.pop(backend).scope.cancel()
            self._unprobed.discard(backend)
        for backend, pool in wanted.items():
            settings, first = pool.settings.health, _first_bytes(pool)
            known = self._watches.get(backend)
            if known is not None and (known.settings, known.first) == (settings, first):
                known.tls = pool.tls
                continue
            if known is not None:
                known.scope.cancel()
            up = None if backend in self._unprobed else backend.healthy
            health = Health(rise=settings.rise, fall=settings.fall, up=up)
            watch = self._watches[backend] = _Watch(pool.name, settings, first, pool.tls, health)
            if self._nursery is not None:
                self._nursery.start_soon(self._watch, backend, watch)
        self._probed()

    async def run(self) -> None:
        """Probe until cancelled."""
        async with _transport() as transport, trio.open_nursery() as nursery:
            self._nursery, self._transport = nursery, transport
            for backend, watch in self._watches.items():
                nursery.start_soon(self._watch, backend, watch)
            await trio.sleep_forever()

    async def _watch(self, backend: Backend, watch: _Watch) -> None:
        with watch.scope:
            while True:
                watch.doubted = trio.Event()
                reason = await probe(
                    backend, watch.settings, self._transport, first=watch.first, tls=watch.tls
                )
                if reason is None:
                    await trio.sleep(watch.settings.interval_s)
                    continue
                self._conclude(backend, watch, reason)
                await _pause(watch)

    def _conclude(self, backend: Backend, watch: _Watch, reason: str) -> None:
        healthy = watch.health.record(good=not reason)
        if healthy != backend.healthy:
            log.warning(
                "backend is up" if healthy else "backend is down",
                pool=watch.pool,
                backend=backend.name,
                reason=reason,
            )
        backend.reason = reason
        backend.set_healthy(healthy)
        self._unprobed.discard(backend)
        self._probed()

    def _probed(self) -> None:
        if not self._unprobed:
            self._all_probed.set()


def _transport() -> httpx.AsyncHTTPTransport:
    # Probes are plain HTTP; to load certificates would hold up the loop for 20 ms.
    limits = httpx.Limits(max_keepalive_connections=0)
    return httpx.AsyncHTTPTransport(limits=limits, trust_env=False, verify=False)


def _first_bytes(pool: Pool) -> bytes:
    """What a connection to a backend of `pool` begins with."""
    version = pool.settings.proxy_protocol
    return write_own_header(version) if version is not None else b""


async def _look(backend: Backend, pool: Pool, transport: httpx.AsyncHTTPTransport) -> None:
    reason = await probe(
        backend, pool.settings.health, transport, first=_first_bytes(pool), tls=pool.tls
    )
    backend.reason = "not probed yet" if reason is None else reason
    backend.set_healthy(not backend.reason)


async def _pause(watch: _Watch) -> None:
    """Until the next probe is due, or somebody doubts the backend."""
    interval_s = watch.settings.interval_s
    with trio.move_on_after(interval_s * (1 + JITTER_FRACTION * random.uniform(-1, 1))):
        await watch.doubted.wait()
        # A storm of failing connects must not become a storm of probes.
        await trio.sleep(min(interval_s, watch.settings.timeout_s) / 4)


async def probe(
    backend: Backend,
    settings: HealthSettings,
    transport: httpx.AsyncHTTPTransport,
    *,
    first: bytes = b"",
    tls: ClientTls | None = None,
) -> str | None:
    """Probe once. A transport has no memory: cookies are forgotten, redirects are not followed.

    Args:
        backend: what to probe.
        settings: how.
        transport: for connections that begin with the request.
        first: what they begin with instead.
        tls: how they go on; None: in plain text.

    Returns:
        Why the backend is not well; empty if it is; None where this node has run out of
        descriptors and cannot tell.
    """
    if settings.path is None:
        timeout_s = settings.timeout_s
        try:
            if settings.protocol == "udp":
                await look_at_port(backend.address, timeout_s=timeout_s)
                return ""
            sock = await connect(backend.address, tls, timeout_s=timeout_s, first=first)
        except UpstreamError as error:
            return None if error.status == 503 else str(error)
        sock.close()
        return ""
    headers = {"User-Agent": "meshlb", "Connection": "close"}
    url = f"{'http' if tls is None else 'https'}://{backend.address}{settings.path}"
    extensions = {} if tls is None else {"sni_hostname": tls.name_of(backend.address)}
    request = httpx.Request("GET", url, headers=headers, extensions=extensions)
    if tls is None and not first:
        return await _ask(request, settings, transport)
    async with ProbeTransport(first, None if tls is None else tls.probe_context) as own:
        return await _ask(request, settings, own)


async def _ask(
    request: httpx.Request, settings: HealthSettings, transport: httpx.AsyncHTTPTransport
) -> str | None:
    try:
        with trio.fail_after(settings.timeout_s):
            response = await transport.handle_async_request(request)
            await response.aclose()
    except trio.TooSlowError:
        return f"no answer within {settings.timeout_s:g} s"
    except (httpx.HTTPError, OSError) as error:
        return None if _is_ours(error) else str(error) or type(error).__name__
    if not 200 <= response.status_code <= 399:
        return f"answered {response.status_code}"
    return ""


def _is_ours(error: BaseException | None) -> bool:
    """Whether it comes down to what this machine has run out of."""
    if isinstance(error, BaseExceptionGroup):
        return any(map(_is_ours, error.exceptions))
    if isinstance(error, OSError) and error.errno in OUT_OF_RESOURCES:
        return True
    return error is not None and _is_ours(error.__cause__ or error.__context__)
