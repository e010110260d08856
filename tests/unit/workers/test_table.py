"""A worker's stick table against a store that is a dict and a member that is a list."""

import pytest
import trio.testing

from meshlb.core.sticky.pin import Pin
from meshlb.errors import NoQuorumError, WorkerError
from meshlb.model import SessionKey
from meshlb.wire.messages import Rank
from meshlb.workers import table as table_module
from meshlb.workers.messages import (
    Answer,
    Claim,
    Message,
    Plant,
    Touch,
    pack_pin,
    unpack_proposal,
)
from meshlb.workers.table import TOLD_S, TOUCH_AGAIN_S, WorkerTable
from meshlb.workers.tally import WorkerTally
from tests.fakes.pins import NOW, TTL_S, a_key, a_pin, a_proposal
from tests.native import of_the_source


class Scene:
    def __init__(self, *, is_strict: bool = False) -> None:
        self.stored: dict[SessionKey, Pin] = {}
        self.said: list[Message] = []
        self.now = NOW
        self.is_degraded = False
        self.is_stuck = False
        self.waiting_bytes = 0
        self.tally = WorkerTally()
        self.outcomes: list[Pin | NoQuorumError] = []
        self.table = WorkerTable(
            self,
            self.put,
            waiting_bytes=lambda: self.waiting_bytes,
            now=lambda: self.now,
            is_degraded=lambda: self.is_degraded,
            is_strict=is_strict,
            tally=self.tally,
        )

    def get(self, key: SessionKey) -> Pin | None:
        return self.stored.get(key)

    def put(self, message: Message) -> None:
        if self.is_stuck:
            raise WorkerError("the other process does not read what it is told")
        self.said.append(message)

    def claim(self, **changes) -> int:
        self.table.claim_soon(a_proposal(a_key(), **changes), self.outcomes.append)
        claim = self.said[-1]
        assert isinstance(claim, Claim)
        return claim.token

    def look_up(self) -> Pin | None:
        return self.table.look_up(a_key(), self.now)


def test_what_is_stored_is_found_while_it_lives() -> None:
    scene = Scene()
    assert scene.look_up() is None
    scene.stored[a_key()] = a_pin(expires_at=NOW + 10)
    assert scene.look_up() == a_pin(expires_at=NOW + 10)
    scene.now = NOW + 10
    assert scene.look_up() is None
    scene.stored[a_key()] = a_pin("")
    assert scene.look_up() is None
    assert scene.said == []


def test_a_claim_is_the_member_s_to_answer() -> None:
    scene = Scene()
    token = scene.claim(moved_from="s3", moved_from_epoch=2)
    claim = scene.said[-1]
    assert isinstance(claim, Claim)
    assert unpack_proposal(claim.proposal) == a_proposal(
        a_key(), moved_from="s3", moved_from_epoch=2
    )
    assert scene.outcomes == []
    scene.table.answered(Answer(token, pack_pin(a_pin("s2")), ""))
    assert scene.outcomes == [a_pin("s2")]


def test_answers_find_their_claims_in_any_order() -> None:
    scene = Scene()
    tokens = [scene.claim() for _ in range(3)]
    for token in reversed(tokens):
        scene.table.answered(Answer(token, pack_pin(a_pin(f"s{token}")), ""))
    backends = [outcome.backend for outcome in scene.outcomes if isinstance(outcome, Pin)]
    assert backends == [f"s{token}" for token in reversed(tokens)]


async def test_a_task_that_claims_gets_the_pin_or_the_refusal(nursery, autojump_clock) -> None:
    scene = Scene()
    results: list[object] = []

    async def claim() -> None:
        try:
            results.append(await scene.table.claim(a_proposal(a_key())))
        except NoQuorumError as error:
            results.append(str(error))

    for _ in range(2):
        nursery.start_soon(claim)
    await trio.testing.wait_all_tasks_blocked()
    first, second = (message.token for message in scene.said if isinstance(message, Claim))
    scene.table.answered(Answer(first, pack_pin(a_pin()), ""))
    scene.table.answered(Answer(second, None, "a minority"))
    await trio.testing.wait_all_tasks_blocked()
    assert sorted(map(str, results)) == sorted(map(str, [a_pin(), "a minority"]))


@of_the_source
def test_too_many_claims_are_refused_at_once(monkeypatch) -> None:
    monkeypatch.setattr(table_module, "CLAIMS_WAITING_MAX", 2)
    scene = Scene()
    for _ in range(3):
        scene.claim()
    assert len(scene.said) == 2
    (refusal,) = scene.outcomes
    assert isinstance(refusal, NoQuorumError)
    assert scene.tally.claims_refused == 1


def test_a_member_that_does_not_read_refuses_claims_and_loses_what_comes_again() -> None:
    scene = Scene()
    scene.is_stuck = True
    scene.table.claim_soon(a_proposal(a_key()), scene.outcomes.append)
    assert isinstance(scene.outcomes[0], NoQuorumError)
    assert scene.table.plant(a_proposal(a_key())).backend == "s1"
    scene.table.touch(a_key(), a_pin(expires_at=NOW + 1), TTL_S)
    assert (scene.tally.claims_refused, scene.tally.words_dropped) == (1, 2)


def test_while_too_much_waits_only_claims_are_told() -> None:
    scene = Scene()
    scene.waiting_bytes = table_module.WORDS_WAITING_BYTES_MAX + 1
    assert scene.table.plant(a_proposal(a_key())).backend == "s1"
    scene.table.touch(a_key(), a_pin(expires_at=NOW + 1), TTL_S)
    assert (scene.said, scene.tally.words_dropped) == ([], 2)
    scene.claim()
    assert len(scene.said) == 1


def test_a_pin_that_the_member_does_not_keep_is_followed_for_a_while() -> None:
    scene = Scene()
    scene.stored[a_key()] = a_pin("down")
    token = scene.claim()
    scene.table.answered(Answer(token, pack_pin(a_pin("s2")), ""))
    assert scene.look_up() == a_pin("s2")
    scene.now += TOLD_S
    assert scene.look_up() == a_pin("down")


def test_it_is_forgotten_once_the_store_says_something_new() -> None:
    scene = Scene()
    scene.stored[a_key()] = a_pin("down")
    scene.table.answered(Answer(scene.claim(), pack_pin(a_pin("s2")), ""))
    scene.stored[a_key()] = a_pin("s3", epoch=1)
    assert scene.look_up() == a_pin("s3", epoch=1)
    scene.stored[a_key()] = a_pin("down")
    assert scene.look_up() == a_pin("down")


@of_the_source
def test_overrides_are_bounded(monkeypatch) -> None:
    monkeypatch.setattr(table_module, "TOLD_KEYS_MAX", 2)
    scene = Scene()
    for number in range(5):
        scene.table.claim_soon(a_proposal(a_key(number)), scene.outcomes.append)
        scene.table.answered(Answer(number, pack_pin(a_pin()), ""))
    assert len(scene.table._told) <= 2


def test_while_the_store_cannot_be_written_the_member_is_asked() -> None:
    scene = Scene()
    scene.stored[a_key()] = a_pin()
    scene.is_degraded = True
    assert scene.look_up() is None
    scene.table.answered(Answer(scene.claim(), pack_pin(a_pin("s2")), ""))
    scene.is_degraded = False
    assert scene.look_up() == a_pin()


def test_a_minted_pin_is_told_and_followed_at_once() -> None:
    scene = Scene()
    pin = scene.table.plant(a_proposal(a_key(), max_age_s=60.0))
    assert (pin.backend, pin.epoch, pin.expires_at) == ("s1", 0, NOW + 60)
    (plant,) = scene.said
    assert isinstance(plant, Plant)
    assert unpack_proposal(plant.proposal) == a_proposal(a_key(), max_age_s=60.0)
    assert plant.epoch is None


def test_what_a_client_brings_back_does_not_cover_what_is_newer() -> None:
    scene = Scene()
    scene.stored[a_key()] = a_pin("s9", epoch=3)
    assert scene.table.plant(a_proposal(a_key()), epoch=2) == a_pin("s9", epoch=3)
    assert scene.said == []
    assert scene.table.plant(a_proposal(a_key()), epoch=4).epoch == 4
    assert len(scene.said) == 1


def test_a_use_is_told_once_until_it_can_be_read() -> None:
    scene = Scene()
    pin = a_pin(expires_at=NOW + TTL_S / 2)
    for _ in range(10):
        scene.table.touch(a_key(), pin, TTL_S)
    assert scene.said == [Touch(a_key(), "s1", 0, TTL_S)]
    scene.now += TOUCH_AGAIN_S
    scene.table.touch(a_key(), pin, TTL_S)
    assert len(scene.said) == 2
    scene.table.touch(a_key(), a_pin(expires_at=scene.now + TTL_S), TTL_S)
    assert len(scene.said) == 2


@of_the_source
def test_told_uses_are_bounded(monkeypatch) -> None:
    monkeypatch.setattr(table_module, "TOUCHED_KEYS_MAX", 3)
    scene = Scene()
    for number in range(10):
        scene.table.touch(a_key(number), a_pin(expires_at=NOW), TTL_S)
    assert len(scene.table._touched) <= 3


def test_in_strict_mode_nothing_is_followed_that_is_not_agreed_on() -> None:
    scene = Scene(is_strict=True)
    scene.stored[a_key()] = a_pin(rank=Rank.PROVISIONAL)
    assert scene.look_up() is None
    with pytest.raises(AssertionError):
        scene.table.plant(a_proposal(a_key()))
