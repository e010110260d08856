"""A pool at run time: its backends, its router and dispatcher, built from the settings."""

import os
from collections.abc import Callable, Collection, Iterable

from meshlb.config.schema import BackendSettings, PoolSettings
from meshlb.core.balance.policy import Policy, policy_named
from meshlb.core.route import Router
from meshlb.core.sticky.cookie import CookieSealer
from meshlb.core.sticky.extract import KeyRule
from meshlb.core.sticky.table import StickTable
from meshlb.model import BackendName, KeySource, PoolName
from meshlb.net.reactor import Reactor
from meshlb.net.tls_client import ClientTls
from meshlb.proxy.backend import Backend
from meshlb.proxy.counters import ProxyCounters
from meshlb.proxy.dispatcher import Dispatcher

MakeBackend = Callable[[PoolName, BackendSettings], Backend]


class Pool:
    """Backends that serve the same application.

    Attributes:
        backends: by name, in the order of the configuration.
        tls: how to speak with the backends; None: in plain text.
        cookie_name: of the load-balancer cookie; None where no rule sets one.
    """

    def __init__(
        self,
        name: PoolName,
        settings: PoolSettings,
        *,
        reactor: Reactor,
        table: StickTable,
        table_now: Callable[[], float],
        cookie_secrets: tuple[bytes, ...],
        key_secret: bytes,
        counters: ProxyCounters,
        doubt: Callable[[Backend], None],
        make_backend: MakeBackend = lambda pool, settings: Backend(settings),
        before: "Pool | None" = None,
    ) -> None:
        """Build a pool; nothing changes for `before` until the new one takes its place.

        Args:
            name: its name; part of every session key.
            settings: from the configuration; `ConfigError` where its certificates cannot be used.
            reactor: moves the bytes.
            table: the stick table.
            table_now: its clock, in seconds.
            cookie_secrets: the first seals load-balancer cookies, all open them.
            key_secret: keys the hash of session keys.
            counters: of the process.
            doubt: called with a backend to which a connect failed.
            make_backend: makes those of its backends that are new.
            before: the pool of this name until now; both share the backends that stay.
        """
        self.name = name
        self.settings = settings
        self.tls = ClientTls(settings.tls, pool=name) if settings.tls is not None else None
        self.backends = _backends(name, settings, make_backend, before)
        self.rules = _rules(settings)
        self.cookie_name = next((r.name for r in self.rules if r.by is KeySource.COOKIE), None)
        self._sealer = _sealer(name, self.cookie_name, cookie_secrets)
        self._policy: Policy = _policy(settings, before)
        self.router: Router[Backend] = Router(
            name,
            rules=self.rules,
            backends=self.backends,
            policy=self._policy,
            table=table,
            sealer=self._sealer,
            key_secret=key_secret,
            draw=os.urandom,
        )
        self.dispatcher = Dispatcher(
            name,
            reactor=reactor,
            router=self.router,
            table=table,
            table_now=table_now,
            counters=counters,
            settings=settings,
            tls=self.tls,
            doubt=doubt,
        )

    def use_secrets(self, *, cookie_secrets: tuple[bytes, ...], key_secret: bytes) -> None:
        """Seal, open and hash with other secrets from now on; see `__init__`."""
        if self._sealer is not None:
            self._sealer.use(cookie_secrets)
        self.router.use_key_secret(key_secret)

    def staying(self, wanted: Iterable[BackendSettings]) -> dict[BackendName, Backend]:
        """The backends that `wanted` describe too; at most their weights are others."""
        known = {settings.name: settings for settings in self.settings.backends}
        return {
            settings.name: self.backends[settings.name]
            for settings in wanted
            if settings.name in known
            and known[settings.name].model_copy(update={"weight": settings.weight}) == settings
        }

    def replace(self, before: "Pool | None") -> None:
        """Take the place of `before`: its backends that are not among this one's retire."""
        for settings in self.settings.backends:
            self.backends[settings.name].weigh(settings.weight)
        if before is not None:
            before.retire(but=self.backends.values())

    def retire(self, *, but: Collection[Backend] = ()) -> None:
        """Nothing begins at these backends any more; what is in progress ends."""
        for backend in set(self.backends.values()).difference(but):
            backend.retire()


def _rules(settings: PoolSettings) -> list[KeyRule]:
    return [
        KeyRule(by=s.by, name=s.key_name, ttl_s=s.ttl_s, max_age_s=s.max_age_s)
        for s in settings.sticky
    ]


def _backends(
    pool: PoolName, settings: PoolSettings, make: MakeBackend, before: Pool | None
) -> dict[BackendName, Backend]:
    # Connections that were opened otherwise must not be used again.
    stays = before is not None and before.settings.tls == settings.tls
    kept = before.staying(settings.backends) if before is not None and stays else {}
    return {b.name: kept.get(b.name) or make(pool, b) for b in settings.backends}


def _sealer(pool: PoolName, cookie: str | None, secrets: tuple[bytes, ...]) -> CookieSealer | None:
    return None if cookie is None else CookieSealer(secrets, pool=pool, name=cookie)


def _policy(settings: PoolSettings, before: Pool | None) -> Policy:
    """That of `before`, if it is of the same kind, for it knows whose turn it is."""
    if before is not None and before.settings.balance == settings.balance:
        return before._policy
    return policy_named(settings.balance)
