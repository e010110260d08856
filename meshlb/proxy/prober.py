"""Active health checks: one trio task a backend probes it and tells its rise/fall machine.

A probe is a TCP connect or an HTTP GET, each on a connection of its own, so that it measures what
a new client would meet. The very first probe counts for itself: a backend that is dead at the
start is down at once. A connect that failed in the data plane brings the next probe forward.
"""

import random

import httpx
import structlog
import trio

from meshlb.config.schema import HealthSettings
from meshlb.core.balance.health import Health
from meshlb.errors import UpstreamError
from meshlb.net.sockets import OUT_OF_RESOURCES, connect_tcp
from meshlb.proxy.backend import Backend
from meshlb.proxy.pool import Pool

JITTER_FRACTION = 0.1
"""Probes of many nodes must not fall into step."""

log = structlog.get_logger()


class Prober:
    """Probes all backends of all pools.

    Attributes:
        doubted: by backend, the event that brings its next probe forward.
    """

    def __init__(self, pools: list[Pool]) -> None:
        self._pools = pools
        self._doubted: dict[Backend, trio.Event] = {}
        self._unprobed = sum(len(pool.backends) for pool in pools)
        self._all_probed = trio.Event()
        if not self._unprobed:
            self._all_probed.set()

    async def wait_first_round(self) -> None:
        """Return when every backend has been probed once."""
        await self._all_probed.wait()

    def doubt(self, backend: Backend) -> None:
        """A connect to `backend` failed: probe it now."""
        event = self._doubted.get(backend)
        if event is not None:
            event.set()

    async def run(self) -> None:
        """Probe until cancelled."""
        limits = httpx.Limits(max_keepalive_connections=0)
        async with (
            # Probes are plain HTTP; to load certificates would hold up the loop for 20 ms.
            httpx.AsyncHTTPTransport(limits=limits, trust_env=False, verify=False) as transport,
            trio.open_nursery() as nursery,
        ):
            for pool in self._pools:
                for backend in pool.backends.values():
                    nursery.start_soon(self._watch, pool, backend, transport)

    async def _watch(
        self, pool: Pool, backend: Backend, transport: httpx.AsyncHTTPTransport
    ) -> None:
        settings = pool.settings.health
        health = Health(rise=settings.rise, fall=settings.fall)
        unprobed = True
        while True:
            self._doubted[backend] = doubted = trio.Event()
            reason = await probe(backend, settings, transport)
            if reason is None:
                await trio.sleep(settings.interval_s)
                continue
            healthy = health.record(good=not reason)
            if healthy != backend.healthy:
                log.warning(
                    "backend is up" if healthy else "backend is down",
                    pool=pool.name,
                    backend=backend.name,
                    reason=reason,
                )
            backend.reason = reason
            backend.set_healthy(healthy)
            if unprobed:
                unprobed = False
                self._probed_once()
            pause_s = settings.interval_s * (1 + JITTER_FRACTION * random.uniform(-1, 1))
            with trio.move_on_after(pause_s):
                await doubted.wait()
                # A storm of failing connects must not become a storm of probes.
                await trio.sleep(min(settings.interval_s, settings.timeout_s) / 4)

    def _probed_once(self) -> None:
        self._unprobed -= 1
        if not self._unprobed:
            self._all_probed.set()


async def probe(
    backend: Backend, settings: HealthSettings, transport: httpx.AsyncHTTPTransport
) -> str | None:
    """Probe once. A transport has no memory: cookies are forgotten, redirects are not followed.

    Returns:
        Why the backend is not well; empty if it is; None where this node has run out of
        descriptors and cannot tell.
    """
    if settings.path is None:
        try:
            sock = await connect_tcp(backend.address, timeout_s=settings.timeout_s)
        except UpstreamError as error:
            return None if error.status == 503 else str(error)
        sock.close()
        return ""
    request = httpx.Request(
        "GET",
        f"http://{backend.address}{settings.path}",
        headers={"User-Agent": "meshlb", "Connection": "close"},
    )
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
