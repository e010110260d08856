"""What is decided for one request, by the table, the rules and the backends; no I/O at all."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest

from meshlb.core.balance.policy import policy_named
from meshlb.core.http.request import RequestParser
from meshlb.core.route import Decision, Router
from meshlb.core.sticky.cookie import CookieSealer
from meshlb.core.sticky.extract import KeyRule
from meshlb.core.sticky.pin import Pin, Proposal
from meshlb.errors import NoQuorumError
from meshlb.model import BackendName, KeySource, NodeName, PoolName, SessionKey
from meshlb.wire.messages import Rank

POOL = PoolName("app")
SECRET = b"s" * 32
NOW = 1_000_000.0
COOKIE = KeyRule(by=KeySource.COOKIE, name="MESHLB", ttl_s=1_200)
HEADER = KeyRule(by=KeySource.HEADER, name="X-Key", ttl_s=1_200)
ADDRESS = KeyRule(by=KeySource.SOURCE_IP, name="", ttl_s=1_200)


@dataclass
class Backend:
    name: BackendName
    takes_new: bool = True
    takes_pinned: bool = True
    weight: int = 1
    load: int = 0


class Table:
    """A stick table; what it is told is kept, and claims are for the test to settle."""

    def __init__(self) -> None:
        self.pins: dict[SessionKey, Pin] = {}
        self.touched: list[SessionKey] = []
        self.is_strict = False

    def look_up(self, key: SessionKey, now: float) -> Pin | None:
        pin = self.pins.get(key)
        return pin if pin is not None and pin.is_live(now) else None

    def claim_soon(
        self, proposal: Proposal, on_done: Callable[[Pin | NoQuorumError], None]
    ) -> None:
        raise AssertionError("routing never claims")

    async def claim(self, proposal: Proposal) -> Pin:
        raise AssertionError("routing never waits")

    def plant(self, proposal: Proposal, *, epoch: int | None = None) -> Pin:
        return self.pins.setdefault(proposal.key, pin_of(proposal.backend, epoch=epoch or 0))

    def touch(self, key: SessionKey, pin: Pin, ttl_s: float) -> None:
        self.touched.append(key)


def pin_of(backend: str, *, epoch: int = 0, expires_at: float = NOW + 1_200) -> Pin:
    return Pin(
        POOL,
        BackendName(backend),
        KeySource.COOKIE,
        epoch,
        Rank.QUORATE,
        1,
        NodeName("n1"),
        expires_at,
    )


class World:
    """A router, and everything that it looks at."""

    def __init__(self, *rules: KeyRule, balance: str = "round-robin") -> None:
        self.table = Table()
        self.backends = {name: Backend(BackendName(name)) for name in ("s1", "s2", "s3")}
        self.sealer = CookieSealer([SECRET], pool=POOL, name="MESHLB")
        drawn = itertools.count(1)
        self.router: Router[Backend] = Router(
            POOL,
            rules=rules,
            backends=self.backends,
            policy=policy_named(balance),
            table=self.table,
            sealer=self.sealer,
            key_secret=SECRET,
            draw=lambda size: next(drawn).to_bytes(size),
        )
        self.parser = RequestParser(drop_cookie=b"MESHLB")

    def ask(
        self, *fields: bytes, client: bytes = b"192.0.2.1", now: float = NOW
    ) -> Decision[Backend]:
        head = b"\r\n".join((b"GET / HTTP/1.1", b"Host: shop", *fields)) + b"\r\n\r\n"
        return self.router.route(self.parser.parse(head), client, now)

    def settled(self, decision: Decision[Backend], pin: Pin, now: float = NOW) -> Decision[Backend]:
        assert decision.proposal is not None
        self.table.pins[decision.proposal.key] = pin
        self.router.settle(decision, pin, now)
        return decision


def cookie_field(decision: Decision[Backend]) -> bytes:
    assert decision.cookie is not None
    return b"Cookie: MESHLB=" + decision.cookie


def name(decision: Decision[Backend]) -> str | None:
    return decision.backend and decision.backend.name


def test_without_rules_a_request_is_balanced_and_nothing_is_kept():
    world = World()
    decisions = [world.ask() for _ in range(4)]
    assert [name(d) for d in decisions] == ["s1", "s2", "s3", "s1"]
    assert all((d.rule, d.key, d.pin, d.proposal, d.cookie) == (None,) * 5 for d in decisions)
    assert world.table.pins == {}


def test_in_strict_mode_a_minted_key_is_claimed_and_gets_its_cookie_once_it_is_agreed_on():
    world = World(COOKIE)
    world.table.is_strict = True
    decision = world.ask()
    assert (decision.backend, decision.cookie, decision.minted) == (None, None, False)
    assert world.table.pins == {}
    assert decision.proposal.backend == "s1"
    world.settled(decision, pin_of("s2"))
    assert name(decision) == "s2"
    opened = world.sealer.open(decision.cookie)
    assert (opened.key, opened.backend, opened.made_at) == (decision.key, "s2", NOW)


def test_in_strict_mode_what_a_client_brings_back_is_followed_without_a_claim():
    world = World(COOKIE)
    first = world.ask()
    world.table.is_strict = True
    world.table.pins.clear()
    again = world.ask(cookie_field(first))
    assert (again.proposal, name(again)) == (None, "s1")


def test_a_client_without_a_cookie_is_pinned_at_once_without_a_claim():
    world = World(COOKIE)
    first, second = world.ask(), world.ask()
    assert (name(first), name(second)) == ("s1", "s2")
    assert first.key != second.key
    assert first.minted
    assert first.proposal is None
    assert world.table.pins[first.key].backend == "s1"
    opened = world.sealer.open(first.cookie)
    assert (opened.key, opened.backend, opened.epoch) == (first.key, "s1", 0)
    assert (opened.made_at, opened.refreshed_at) == (NOW, NOW)


def test_a_cookie_is_followed_and_its_pin_touched_only_when_it_is_worth_it():
    world = World(COOKIE)
    first = world.ask()
    again = world.ask(cookie_field(first))
    assert (name(again), again.pin, again.cookie) == ("s1", first.pin, None)
    assert not again.minted
    assert world.table.touched == []
    world.ask(cookie_field(first), now=NOW + 700)
    assert world.table.touched == [first.key]


def test_what_is_under_way_keeps_its_pin_alive_and_brings_no_lost_one_back():
    world = World(COOKIE)
    decision = world.ask()
    world.router.renew(decision, NOW)
    assert world.table.touched == []
    world.router.renew(decision, NOW + 700)
    assert world.table.touched == [decision.key]
    world.table.pins.clear()
    world.router.renew(decision, NOW + 800)
    World().router.renew(World().ask(), NOW)
    assert world.table.touched == [decision.key]
    assert world.table.pins == {}


def test_a_new_key_is_proposed_and_followed_once_it_is_settled():
    world = World(HEADER)
    decision = world.ask(b"X-Key: k")
    proposal = decision.proposal
    assert decision.backend is None
    assert (proposal.backend, proposal.pool, proposal.by) == ("s1", POOL, KeySource.HEADER)
    assert (proposal.ttl_s, proposal.max_age_s) == (1_200, None)
    assert (proposal.moved_from, proposal.moved_from_epoch) == ("", 0)
    world.settled(decision, pin_of("s3"))
    assert (name(decision), decision.proposal, decision.cookie) == ("s3", None, None)
    assert name(world.ask(b"x-key:k")) == "s3"


def test_a_pin_whose_backend_takes_nothing_is_proposed_anew():
    world = World(HEADER)
    world.settled(world.ask(b"X-Key: k"), pin_of("s2", epoch=7))
    world.backends["s2"].takes_new = world.backends["s2"].takes_pinned = False
    decision = world.ask(b"X-Key: k")
    assert decision.backend is None
    assert decision.proposal.backend != "s2"
    assert (decision.proposal.moved_from, decision.proposal.moved_from_epoch) == ("s2", 7)


def test_a_draining_backend_keeps_its_pins_and_is_never_proposed():
    world = World(HEADER)
    world.settled(world.ask(b"X-Key: k"), pin_of("s1"))
    world.backends["s1"].takes_new = False
    assert name(world.ask(b"X-Key: k")) == "s1"
    assert "s1" not in {world.ask(b"X-Key: %d" % n).proposal.backend for n in range(6)}


@pytest.mark.parametrize("rules", [(), (COOKIE,), (HEADER,), (ADDRESS,)])
def test_where_nobody_takes_anything_there_is_neither_backend_nor_proposal(rules):
    world = World(*rules)
    for backend in world.backends.values():
        backend.takes_new = backend.takes_pinned = False
    decision = world.ask(b"X-Key: k")
    assert (decision.backend, decision.proposal, decision.cookie) == (None, None, None)
    assert world.table.pins == {}


def test_a_pinned_client_is_served_though_nobody_takes_new_ones():
    world = World(COOKIE)
    first = world.ask()
    for backend in world.backends.values():
        backend.takes_new = False
    assert name(world.ask(cookie_field(first))) == "s1"


def test_the_first_rule_that_finds_a_key_decides():
    world = World(HEADER, ADDRESS)
    assert world.ask(b"X-Key: k").rule is HEADER
    assert world.ask().rule is ADDRESS
    assert world.ask(b"X-Key:").rule is ADDRESS


def test_a_tcp_client_is_known_by_its_address_and_has_no_cookie():
    world = World(COOKIE, HEADER, ADDRESS)
    decision = world.router.route(None, b"192.0.2.1", NOW)
    assert decision.rule is ADDRESS
    assert decision.key == world.router.hash(ADDRESS, b"192.0.2.1")
    assert World(COOKIE).router.route(None, b"192.0.2.1", NOW).backend is not None


def test_after_a_failed_connect_a_plain_request_goes_elsewhere():
    world = World()
    decision = world.ask()
    world.router.redirect(decision, {"s1"})
    assert name(decision) in ("s2", "s3")
    world.router.redirect(decision, {"s1", "s2", "s3"})
    assert (decision.backend, decision.proposal) == (None, None)


def test_after_a_failed_connect_a_pinned_key_has_to_move():
    world = World(HEADER)
    decision = world.settled(world.ask(b"X-Key: k"), pin_of("s1", epoch=2))
    world.router.redirect(decision, {"s1"})
    assert decision.backend is None
    assert decision.proposal.backend in ("s2", "s3")
    assert (decision.proposal.moved_from, decision.proposal.moved_from_epoch) == ("s1", 2)
    world.settled(decision, pin_of("s2", epoch=3))
    assert name(decision) == "s2"


def test_where_the_cluster_insists_the_request_goes_elsewhere_and_the_pin_stays():
    world = World(HEADER)
    decision = world.settled(world.ask(b"X-Key: k"), pin_of("s1"))
    world.router.without_pin(decision, {"s1"})
    assert name(decision) in ("s2", "s3")
    assert decision.proposal is None
    assert world.table.pins[decision.key].backend == "s1"


def test_a_settled_pin_of_an_unusable_or_unknown_backend_is_not_followed():
    world = World(HEADER)
    world.backends["s2"].takes_pinned = False
    for backend in ("s2", "removed"):
        decision = world.settled(world.ask(b"X-Key: " + backend.encode()), pin_of(backend))
        assert decision.backend is None
        assert decision.pin.backend == backend


def test_a_cookie_brings_back_a_pin_that_the_table_has_lost():
    world = World(COOKIE)
    first = world.ask()
    world.table.pins.clear()
    again = world.ask(cookie_field(first))
    assert (name(again), again.proposal) == ("s1", None)
    assert world.table.pins[first.key].backend == "s1"


def test_a_cookie_whose_pin_was_lost_and_whose_backend_is_down_moves_with_its_age():
    world = World(COOKIE)
    first = world.ask()
    world.table.pins.clear()
    world.backends["s1"].takes_new = world.backends["s1"].takes_pinned = False
    again = world.ask(cookie_field(first), now=NOW + 60)
    assert (again.proposal.key, again.proposal.moved_from) == (first.key, "s1")
    world.settled(again, pin_of("s2", epoch=1), now=NOW + 61)
    opened = world.sealer.open(again.cookie)
    assert (opened.made_at, opened.refreshed_at) == (NOW, NOW + 61)


def test_a_cookie_that_is_idle_for_too_long_claims_its_key_as_a_new_one():
    world = World(COOKIE)
    first = world.ask()
    later = NOW + 1.25 * COOKIE.ttl_s
    assert name(world.ask(cookie_field(first), now=NOW + 1_199)) == "s1"
    again = world.ask(cookie_field(first), now=later + 1)
    assert (again.proposal.key, again.proposal.moved_from) == (first.key, "")
    world.settled(again, pin_of("s3"), now=later + 1)
    assert world.sealer.open(again.cookie).made_at == int(later + 1)


def test_max_age_ends_a_session_however_much_it_is_used():
    world = World(replace(COOKIE, max_age_s=3_600))
    first = world.ask()
    world.table.pins[first.key] = pin_of("s1", expires_at=NOW + 9_999)
    assert world.ask(cookie_field(first), now=NOW + 3_600).key == first.key
    assert world.ask(cookie_field(first), now=NOW + 3_601).key != first.key


@pytest.mark.parametrize(
    "pin", [pin_of("s2", epoch=1), pin_of("s2"), pin_of("s1", epoch=1)], ids=["both", "name", "no"]
)
def test_a_cookie_that_differs_from_its_pin_is_sealed_anew(pin):
    world = World(COOKIE)
    first = world.ask()
    world.table.pins[first.key] = pin
    again = world.ask(cookie_field(first))
    opened = world.sealer.open(again.cookie)
    assert (opened.backend, opened.epoch) == (pin.backend, pin.epoch)
    assert name(again) == pin.backend


def test_a_cookie_under_an_older_secret_is_sealed_anew():
    world = World(COOKIE)
    first = world.ask()
    world.router._sealer = CookieSealer([b"t" * 32, SECRET], pool=POOL, name="MESHLB")
    again = world.ask(cookie_field(first))
    assert (name(again), again.key) == ("s1", first.key)
    assert world.router._sealer.open(again.cookie).sealed_by_older_key is False


def test_a_value_stands_for_a_key_under_each_rule():
    world = World(COOKIE, HEADER, ADDRESS)
    first = world.ask()
    assert world.router.keys_of(first.cookie)[0] == first.key
    assert world.router.keys_of(b"k") == [
        world.router.hash(HEADER, b"k"),
        world.router.hash(ADDRESS, b"k"),
    ]


def test_by_rendezvous_a_key_is_proposed_to_the_same_backend_by_every_node():
    one, other = World(HEADER, balance="rendezvous"), World(HEADER, balance="rendezvous")
    other.ask(b"X-Key: something else")
    for number in range(20):
        field = b"X-Key: %d" % number
        assert one.ask(field).proposal.backend == other.ask(field).proposal.backend
