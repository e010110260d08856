"""Clients and operators: they ask nodes for keys, through the real router, and note the answers.

Owns: what a node's proxy does for a request up to the choice of a backend, how backends fail and
when nodes notice, and the requests that wait. Must not know: what must hold of the answers.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from types import SimpleNamespace
from typing import Any, Protocol, TypeVar

from meshlb.core.route import Decision, Router
from meshlb.core.sticky.cookie import CookieSealer
from meshlb.core.sticky.extract import KeyRule
from meshlb.core.sticky.pin import Pin
from meshlb.model import BackendName, BackendState, KeySource, NodeName, PoolName, SessionKey
from meshlb.wire.messages import BackendOverride
from tests.sim.mesh.mesh import SimMesh
from tests.sim.mesh.plan import BACKENDS, Fault, Plan, Step
from tests.sim.mesh.process import Process

POOL = PoolName("app")
SECRET = b"s" * 32
COOKIE = "MESHLB"
ATTEMPTS_MAX = 4
NOTICE_S_MAX = 1.5
"""How long a node's health checks need to notice a backend that fails or recovers."""

T = TypeVar("T")


class Notes(Protocol):
    """Who hears of the answers."""

    def asked(self, process: Process, key: SessionKey) -> int: ...
    def answered(self, ticket: int, pin: Pin) -> None: ...
    def followed(self, process: Process, key: SessionKey, pin: Pin) -> None: ...
    def unpinned(self, process: Process, key: SessionKey) -> None: ...


@dataclass
class SimBackend:
    """A backend as one node sees it."""

    name: BackendName
    is_up: bool = True
    word: BackendState = BackendState.UP
    weight: int = 1
    connections: int = 0

    @property
    def takes_new(self) -> bool:
        return self.is_up and self.word is BackendState.UP

    @property
    def takes_pinned(self) -> bool:
        return self.is_up and self.word is not BackendState.MAINTENANCE


class AnyOf:
    """A policy under which nodes seldom propose the same: the worst case for agreement."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng

    def choose(self, candidates: Sequence[T], key: bytes) -> T | None:
        return self._rng.choice(candidates)


class Proxy:
    """What one process knows of its backends, and its router."""

    def __init__(self, process: Process, rng: Random, down: set[str], ttl_s: float) -> None:
        self.process = process
        self.backends = {
            BackendName(b): SimBackend(BackendName(b), b not in down) for b in BACKENDS
        }
        for word in process.overrides.all():
            self._overridden(word)
        process.on_override = self._overridden
        self.by_address, self.by_cookie = (
            Router(
                POOL,
                rules=[rule],
                backends=self.backends,
                policy=AnyOf(rng),
                table=process.table,
                sealer=CookieSealer([SECRET], pool=POOL, name=COOKIE),
                key_secret=SECRET,
                draw=rng.randbytes,
            )
            for rule in (
                KeyRule(KeySource.SOURCE_IP, "", ttl_s),
                KeyRule(KeySource.COOKIE, COOKIE, ttl_s),
            )
        )

    def _overridden(self, word: BackendOverride) -> None:
        self.backends[word.backend].word = word.state


class Clients:
    """All clients of one run."""

    def __init__(self, plan: Plan, mesh: SimMesh, notes: Notes) -> None:
        self._plan = plan
        self._mesh = mesh
        self._world = mesh.world
        self._rng = mesh.world.chance("clients")
        self._notes = notes
        self._down: set[str] = set()
        self._proxies: dict[NodeName, Proxy] = {}
        self._cookies: dict[int, bytes] = {}
        mesh.on_started = self._started

    def _started(self, process: Process) -> None:
        rng = Random(self._rng.getrandbits(64))
        self._proxies[process.name] = Proxy(process, rng, self._down, self._plan.ttl_s)

    # What happens ------------------------------------------------------------------------

    def do(self, step: Step) -> None:
        """A client or an operator asks something of a node, if it is there."""
        host = self._mesh.hosts.get(step.host)
        process = host.running if host is not None else None
        if process is None:
            return
        self._world.note(step.host, step.kind, step.key)
        proxy = self._proxies[step.host]
        match step.kind:
            case "request":
                process.act(lambda: self._request(proxy, step.key))
            case "cookie":
                process.act(lambda: self._cookie(proxy, step.key))
            case "unpin":
                process.act(lambda: self._unpin(proxy, step.key))

    def befall(self, fault: Fault) -> None:
        """A backend fails, or an operator speaks."""
        if fault.kind == "backend":
            self._down.add(fault.backend)
            self._noticed(fault.backend)
            self._world.at(self._world.now + fault.for_s, lambda: self._recover(fault.backend))
        elif fault.kind == "word" and self._mesh.hosts[fault.host].running is not None:
            proxy = self._proxies[fault.host]
            name, state = BackendName(fault.backend), BackendState(fault.state)
            proxy.process.act(lambda: self._say(proxy, name, state))

    def _say(self, proxy: Proxy, backend: BackendName, state: BackendState) -> None:
        process = proxy.process
        wall_ms = int(process.table_now() * 1000)
        word = process.overrides.say(POOL, backend, state, wall_ms=wall_ms)
        spoken = self._mesh.words.get(backend)
        if spoken is None or (spoken.stamp_ms, spoken.by) < (word.stamp_ms, word.by):
            self._mesh.words[backend] = word
        proxy.process.on_override(word)
        process.agent.tell(word)

    def recover_all(self) -> None:
        """Every backend is well again."""
        for name in sorted(self._down):
            self._recover(name)

    def _recover(self, name: str) -> None:
        self._down.discard(name)
        self._noticed(name)

    def _noticed(self, name: str) -> None:
        for proxy in self._proxies.values():
            at = self._world.now + self._rng.random() * NOTICE_S_MAX
            self._world.at(at, lambda proxy=proxy: self._look(proxy, name))  # type: ignore[misc]  # bound

    def _look(self, proxy: Proxy, name: str) -> None:
        proxy.backends[BackendName(name)].is_up = name not in self._down

    # Requests ----------------------------------------------------------------------------

    def key_of(self, number: int) -> SessionKey:
        """The session key of a client that is known by its address."""
        proxy = next(iter(self._proxies.values()))
        rule = KeyRule(KeySource.SOURCE_IP, "", self._plan.ttl_s)
        return proxy.by_address.hash(rule, _address(number))

    def _request(self, proxy: Proxy, number: int) -> None:
        now = proxy.process.table_now()
        decision = proxy.by_address.route(None, _address(number), now)
        self._obtain(proxy, proxy.by_address, decision, set(), lambda: None)

    def _cookie(self, proxy: Proxy, number: int) -> None:
        head: Any = SimpleNamespace(lb_cookie=self._cookies.get(number))
        decision = proxy.by_cookie.route(head, b"", proxy.process.table_now())

        def responded() -> None:
            if decision.cookie is not None:
                self._cookies[number] = decision.cookie

        self._obtain(proxy, proxy.by_cookie, decision, set(), responded)

    def _obtain(
        self,
        proxy: Proxy,
        router: Router[SimBackend],
        decision: Decision[SimBackend],
        failed: set[BackendName],
        responded: Callable[[], None],
    ) -> None:
        """As `meshlb.proxy.dispatcher`: claim, connect, and try elsewhere on failure."""
        if decision.proposal is not None:
            self._claim(
                proxy, router, decision, failed,
                lambda: self._connect(proxy, router, decision, failed, responded),
            )  # fmt: skip
        else:
            if decision.pin is not None and decision.key is not None:
                self._notes.followed(proxy.process, decision.key, decision.pin)
            self._connect(proxy, router, decision, failed, responded)

    def _connect(
        self,
        proxy: Proxy,
        router: Router[SimBackend],
        decision: Decision[SimBackend],
        failed: set[BackendName],
        responded: Callable[[], None],
    ) -> None:
        backend = decision.backend
        if backend is None or len(failed) >= ATTEMPTS_MAX:
            return
        if backend.name not in self._down:
            responded()
            return
        failed.add(backend.name)
        backend.is_up = False
        router.redirect(decision, failed)
        if decision.proposal is not None:
            self._obtain(proxy, router, decision, failed, responded)

    def _claim(
        self,
        proxy: Proxy,
        router: Router[SimBackend],
        decision: Decision[SimBackend],
        failed: set[BackendName],
        settled: Callable[[], None],
    ) -> None:
        def first(pin: Pin) -> None:
            router.settle(decision, pin, proxy.process.table_now())
            if decision.backend is not None and decision.backend.name not in failed:
                settled()
                return
            router.redirect(decision, failed)
            if decision.proposal is not None:
                self._ask(proxy, decision, second)

        def second(pin: Pin) -> None:
            router.settle(decision, pin, proxy.process.table_now())
            if decision.backend is None or decision.backend.name in failed:
                router.without_pin(decision, failed)
            settled()

        self._ask(proxy, decision, first)

    def _ask(
        self, proxy: Proxy, decision: Decision[SimBackend], then: Callable[[Pin], None]
    ) -> None:
        proposal = decision.proposal
        assert proposal is not None
        ticket = self._notes.asked(proxy.process, proposal.key)

        def answered(pin: Pin) -> None:
            self._notes.answered(ticket, pin)
            then(pin)

        proxy.process.claim(proposal, answered)

    def _unpin(self, proxy: Proxy, number: int) -> None:
        key = self.key_of(number)
        if proxy.process.table.unpin(key):
            self._notes.unpinned(proxy.process, key)


def _address(number: int) -> bytes:
    return b"10.1.0.%d" % number
