from collections.abc import Callable

import pytest

from meshlb.core.sticky.pin import Pin, Proposal
from meshlb.errors import NoQuorumError, WorkerError
from meshlb.model import SessionKey
from meshlb.workers.desk import Desk
from meshlb.workers.messages import Answer, Claim, Plant, Touch, pack_pin, pack_proposal
from tests.fakes.pins import NOW, TTL_S, a_key, a_pin, a_proposal


class Table:
    """A member's stick table that notes what it is asked."""

    is_strict = False

    def __init__(self) -> None:
        self.pins: dict[SessionKey, Pin] = {}
        self.claims: list[tuple[Proposal, Callable[[Pin | NoQuorumError], None]]] = []
        self.planted: list[tuple[Proposal, int | None]] = []
        self.touched: list[tuple[SessionKey, float]] = []

    def look_up(self, key: SessionKey, now: float) -> Pin | None:
        return self.pins.get(key)

    def claim_soon(self, proposal, on_done) -> None:
        self.claims.append((proposal, on_done))

    async def claim(self, proposal: Proposal) -> Pin:
        raise AssertionError("a desk has no time to wait")

    def plant(self, proposal: Proposal, *, epoch: int | None = None) -> Pin:
        self.planted.append((proposal, epoch))
        return a_pin()

    def touch(self, key: SessionKey, pin: Pin, ttl_s: float) -> None:
        self.touched.append((key, ttl_s))


class Scene:
    def __init__(self) -> None:
        self.table = Table()
        self.answers: list[Answer] = []
        self.desk = Desk(self.table, lambda: NOW, self.answers.append)


def test_a_claim_is_answered_once_it_has_ended() -> None:
    scene = Scene()
    scene.desk.hear(Claim(7, pack_proposal(a_proposal(a_key()))))
    assert scene.answers == []
    ((proposal, on_done),) = scene.table.claims
    assert proposal == a_proposal(a_key())
    on_done(a_pin("s2"))
    assert scene.answers == [Answer(7, pack_pin(a_pin("s2")), "")]


def test_a_refusal_says_why() -> None:
    scene = Scene()
    scene.desk.hear(Claim(7, pack_proposal(a_proposal(a_key()))))
    scene.table.claims[0][1](NoQuorumError("a minority"))
    assert scene.answers == [Answer(7, None, "a minority")]


def test_a_worker_that_is_gone_is_told_nothing() -> None:
    scene = Scene()
    scene.desk.hear(Claim(7, pack_proposal(a_proposal(a_key()))))
    scene.desk.close()
    scene.table.claims[0][1](a_pin())
    assert scene.answers == []


def test_who_asked_one_table_is_not_answered_about_another() -> None:
    scene = Scene()
    scene.desk.hear(Claim(7, pack_proposal(a_proposal(a_key()))))
    scene.desk.close()
    scene.desk.hear(Plant(pack_proposal(a_proposal(a_key())), None))
    assert scene.table.planted == [], "its store is closed"
    other = Table()
    scene.desk.reopen(other, lambda: NOW)
    scene.desk.hear(Claim(7, pack_proposal(a_proposal(a_key()))))
    scene.table.claims[0][1](a_pin("s1"))
    assert scene.answers == []
    other.claims[0][1](a_pin("s2"))
    assert scene.answers == [Answer(7, pack_pin(a_pin("s2")), "")]


def test_what_a_worker_pinned_is_kept() -> None:
    scene = Scene()
    scene.desk.hear(Plant(pack_proposal(a_proposal(a_key())), None))
    scene.desk.hear(Plant(pack_proposal(a_proposal(a_key(2))), 3))
    assert scene.table.planted == [(a_proposal(a_key()), None), (a_proposal(a_key(2)), 3)]


def test_in_strict_mode_nothing_is_pinned_without_agreement() -> None:
    scene = Scene()
    scene.table.is_strict = True
    scene.desk.hear(Plant(pack_proposal(a_proposal(a_key())), None))
    scene.desk.hear(Plant(pack_proposal(a_proposal(a_key(2))), 3))
    assert scene.table.planted == [(a_proposal(a_key(2)), 3)]


@pytest.mark.parametrize(
    ("backend", "epoch", "counts"), [("s1", 0, True), ("s2", 0, False), ("s1", 1, False)]
)
def test_a_use_counts_for_the_pin_that_was_used(backend: str, epoch: int, counts: bool) -> None:
    scene = Scene()
    scene.table.pins[a_key()] = a_pin("s1")
    scene.desk.hear(Touch(a_key(), backend, epoch, TTL_S))
    assert scene.table.touched == ([(a_key(), TTL_S)] if counts else [])


def test_what_makes_no_sense_is_refused() -> None:
    scene = Scene()
    with pytest.raises(WorkerError):
        scene.desk.hear(Claim(7, ["nonsense"]))
    with pytest.raises(WorkerError):
        scene.desk.hear(Touch(b"short", "s1", 0, TTL_S))
    assert scene.table.claims == []
