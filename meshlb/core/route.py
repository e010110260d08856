"""Routing: a request head, the stick table and a pool give a decision.

Owns the order in which the rules of a pool are asked, and what a pin means for a request: follow
it, move it, or make one. It never waits: where the cluster has to agree first, the decision
carries a `proposal`, and whoever executes it claims and comes back with `settle`. When a backend
turns out to be unusable, `redirect` finds another one. Knows neither sockets nor tasks.

Spec: protocol/spec/pins.md; the public face is in docs/stickiness.md.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final, Generic, Protocol, TypeVar

from meshlb.core.balance.policy import Candidate, Policy
from meshlb.core.http.request import RequestHead
from meshlb.core.sticky.cookie import CookieSealer, LbCookie
from meshlb.core.sticky.extract import KeyRule, extract, hash_key
from meshlb.core.sticky.pin import NO_BACKEND, Pin, Proposal
from meshlb.core.sticky.table import StickTable
from meshlb.model import SESSION_KEY_BYTES, BackendName, KeySource, PoolName, SessionKey

COOKIE_REFRESH_FRACTION: Final = 0.25
"""A cookie is sealed anew after this part of its ttl, so that it tells when it was last used."""


_COOKIE: Final[KeySource] = KeySource.COOKIE
"""A global: looking a member up in its class costs ten times as much."""


class Routable(Candidate, Protocol):
    """A backend as routing sees it."""

    @property
    def takes_new(self) -> bool:
        """Whether new pins, and requests without one, may go here."""
        ...

    @property
    def takes_pinned(self) -> bool:
        """Whether existing pins may be followed here."""
        ...


B = TypeVar("B", bound=Routable)


class Decision(Generic[B]):
    """What to do with one request.

    Attributes:
        backend: where to send it; None while a claim is due, or where no backend can take it.
        rule: the rule that gave the session key; None: plain balancing.
        key: the session key; None with plain balancing.
        pin: the pin that is followed; None while a claim is due.
        proposal: what to claim first; None: no claim is due.
        cookie: the value of a load-balancer cookie to set with the response; None: set none.
        minted: the pin was made just now, without a claim.
        made_at: when the session began, as the client's cookie says; None: with this request.
    """

    __slots__ = ("backend", "cookie", "key", "made_at", "minted", "pin", "proposal", "rule")

    def __init__(
        self,
        backend: B | None,
        rule: KeyRule | None = None,
        key: SessionKey | None = None,
        pin: Pin | None = None,
        proposal: Proposal | None = None,
        *,
        minted: bool = False,
    ) -> None:
        self.backend = backend
        self.rule = rule
        self.key = key
        self.pin = pin
        self.proposal = proposal
        self.cookie: bytes | None = None
        self.minted = minted
        self.made_at: float | None = None


class Router(Generic[B]):
    """The rules, backends and policy of one pool."""

    def __init__(
        self,
        pool: PoolName,
        *,
        rules: Sequence[KeyRule],
        backends: Mapping[BackendName, B],
        policy: Policy,
        table: StickTable,
        sealer: CookieSealer | None,
        key_secret: bytes,
        draw: Callable[[int], bytes],
    ) -> None:
        """Wire a router.

        Args:
            pool: the pool's name; part of every session key.
            rules: asked in order; the first that yields a key decides.
            backends: read at each decision, so it may change.
            policy: chooses among the backends that take new pins.
            table: the stick table.
            sealer: seals and opens the load-balancer cookie; needed by a `cookie` rule.
            key_secret: keys the hash of session keys; the same on all nodes.
            draw: gives so many random bytes.
        """
        self._pool = pool
        self._rules = tuple(rules)
        self._backends = backends
        self._policy = policy
        self._table = table
        self._sealer = sealer
        self._key_secret = key_secret
        self._draw = draw

    def route(self, request: RequestHead | None, client: bytes, now: float) -> Decision[B]:
        """Decide on one request, or on one TCP connection (`request` is None then).

        Args:
            request: the head.
            client: the client's address as text.
            now: table time in seconds.
        """
        for rule in self._rules:
            if rule.by is _COOKIE:
                if request is not None:
                    return self._by_cookie(rule, request.lb_cookie, now)
            else:
                value = extract(rule, request, client)
                if value is not None:
                    return self._by_key(rule, self.hash(rule, value), now)
        return Decision(self._choose(b""))

    def use_key_secret(self, key_secret: bytes) -> None:
        """Hash session keys with another secret from now on."""
        self._key_secret = key_secret

    def hash(self, rule: KeyRule, value: bytes) -> SessionKey:
        """The session key of a value that a rule found."""
        return hash_key(self._key_secret, self._pool, rule.by, rule.name, value)

    def keys_of(self, value: bytes) -> list[SessionKey]:
        """The session keys that `value`, as a client sends it, can stand for, by rule."""
        keys = []
        for rule in self._rules:
            if rule.by is not _COOKIE:
                keys.append(self.hash(rule, value))
            elif self._sealer is not None and (cookie := self._sealer.open(value)) is not None:
                keys.append(cookie.key)
        return keys

    def settle(self, decision: Decision[B], pin: Pin, now: float) -> None:
        """The claim of `decision` has ended with `pin`: follow it if it can be followed."""
        decision.proposal = None
        decision.pin = pin
        backend = self._backends.get(pin.backend)
        decision.backend = backend if backend is not None and backend.takes_pinned else None
        if decision.rule is not None and decision.rule.by is _COOKIE:
            self._set_cookie(decision, now)

    def renew(self, decision: Decision[B], now: float) -> None:
        """What was decided is still under way: keep its pin alive."""
        rule, key = decision.rule, decision.key
        if rule is not None and key is not None:
            pin = self._table.look_up(key, now)
            if pin is not None and pin.expires_at < now + rule.quiet_s:
                self._table.touch(key, pin, rule.ttl_s)

    def redirect(self, decision: Decision[B], failed: Collection[BackendName]) -> None:
        """The backend of `decision` cannot be used: choose one that is not in `failed`.

        Afterwards either `proposal` is set (a pinned key has to move), or `backend` is (plain
        balancing), or neither: nobody is left.
        """
        chosen = self._choose(decision.key or b"", failed)
        if decision.rule is None or chosen is None or decision.key is None:
            decision.backend = chosen
            decision.proposal = None
            return
        moved_from, epoch = NO_BACKEND, 0
        if decision.pin is not None:
            moved_from, epoch = decision.pin.backend, decision.pin.epoch
        decision.backend = None
        decision.proposal = self._propose(
            decision.rule, decision.key, chosen, moved_from=moved_from, epoch=epoch
        )

    def without_pin(self, decision: Decision[B], failed: Collection[BackendName]) -> None:
        """The cluster insists on a backend that this node cannot reach: serve from another one.

        The pin stays as it is, so the client comes back to its backend once that is possible.
        """
        decision.proposal = None
        decision.backend = self._choose(decision.key or b"", failed)

    def _by_key(self, rule: KeyRule, key: SessionKey, now: float) -> Decision[B]:
        pin = self._table.look_up(key, now)
        if pin is None:
            return self._claim(rule, key)
        return self._follow(rule, key, pin, now)

    def _by_cookie(self, rule: KeyRule, value: bytes | None, now: float) -> Decision[B]:
        cookie = self._sealer.open(value) if self._sealer is not None and value else None
        if cookie is None or (rule.max_age_s is not None and now > cookie.made_at + rule.max_age_s):
            return self._mint(rule, now)
        pin = self._table.look_up(cookie.key, now)
        if pin is None:
            pin = self._restore(rule, cookie, now)
            if pin is None:
                return self._begin_again(rule, cookie, now)
        decision = self._follow(rule, cookie.key, pin, now)
        decision.made_at = cookie.made_at
        if (
            pin.epoch != cookie.epoch
            or pin.backend != cookie.backend
            or now > cookie.refreshed_at + rule.ttl_s * COOKIE_REFRESH_FRACTION
            or cookie.sealed_by_older_key
        ) and decision.backend is not None:
            self._set_cookie(decision, now)
        return decision

    def _follow(self, rule: KeyRule, key: SessionKey, pin: Pin, now: float) -> Decision[B]:
        backend = self._backends.get(pin.backend)
        if backend is not None and backend.takes_pinned:
            if pin.expires_at < now + rule.quiet_s:
                self._table.touch(key, pin, rule.ttl_s)
            return Decision(backend, rule, key, pin)
        return self._claim(rule, key, moved_from=pin.backend, epoch=pin.epoch)

    def _claim(
        self,
        rule: KeyRule,
        key: SessionKey,
        *,
        moved_from: BackendName = NO_BACKEND,
        epoch: int = 0,
    ) -> Decision[B]:
        chosen = self._choose(key)
        if chosen is None:
            return Decision(None, rule, key)
        proposal = self._propose(rule, key, chosen, moved_from=moved_from, epoch=epoch)
        return Decision(None, rule, key, None, proposal)

    def _mint(self, rule: KeyRule, now: float) -> Decision[B]:
        """A client without a usable cookie: its key is new, so nobody can race for it.

        It is claimed all the same where a session must not begin without agreement.
        """
        key = SessionKey(self._draw(SESSION_KEY_BYTES))
        if self._table.is_strict:
            return self._claim(rule, key)
        chosen = self._choose(b"")
        if chosen is None:
            return Decision(None, rule)
        pin = self._table.plant(self._propose(rule, key, chosen))
        decision = Decision(chosen, rule, key, pin, minted=True)
        self._set_cookie(decision, now)
        return decision

    def _restore(self, rule: KeyRule, cookie: LbCookie, now: float) -> Pin | None:
        """The pin that the client kept for us while the table lost it; None if it is of no use."""
        backend = self._backends.get(cookie.backend)
        if backend is None or not backend.takes_pinned or _is_over(rule, cookie, now):
            return None
        pin = self._table.plant(self._propose(rule, cookie.key, backend), epoch=cookie.epoch)
        return pin if pin.is_live(now) else None

    def _begin_again(self, rule: KeyRule, cookie: LbCookie, now: float) -> Decision[B]:
        """No pin for a known client: claim its key, so that its parallel requests agree."""
        if _is_over(rule, cookie, now):
            return self._claim(rule, cookie.key)
        decision = self._claim(rule, cookie.key, moved_from=cookie.backend, epoch=cookie.epoch)
        decision.made_at = cookie.made_at
        return decision

    def _propose(
        self,
        rule: KeyRule,
        key: SessionKey,
        backend: B,
        *,
        moved_from: BackendName = NO_BACKEND,
        epoch: int = 0,
    ) -> Proposal:
        return Proposal(
            key,
            self._pool,
            backend.name,
            rule.by,
            rule.ttl_s,
            rule.max_age_s,
            moved_from,
            epoch,
        )

    def _set_cookie(self, decision: Decision[B], now: float) -> None:
        if self._sealer is None or decision.pin is None or decision.key is None:
            return
        decision.cookie = self._sealer.seal(
            LbCookie(
                key=decision.key,
                backend=decision.pin.backend,
                epoch=decision.pin.epoch,
                made_at=now if decision.made_at is None else decision.made_at,
                refreshed_at=now,
            ),
            self._draw(CookieSealer.NONCE_BYTES),
        )

    def _choose(self, key: bytes, failed: Collection[BackendName] = ()) -> B | None:
        candidates = [b for b in self._backends.values() if b.takes_new and b.name not in failed]
        return self._policy.choose(candidates, key) if candidates else None


def _is_over(rule: KeyRule, cookie: LbCookie, now: float) -> bool:
    """Whether the session of `cookie` has been idle for too long, as far as the cookie tells."""
    return now > cookie.refreshed_at + rule.ttl_s * (1 + COOKIE_REFRESH_FRACTION)
