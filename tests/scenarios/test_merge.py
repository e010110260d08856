"""The scenarios of merging pins, at this implementation's replica and at the reference."""

import dataclasses
import itertools
from typing import Any, Protocol

import pytest

from meshlb.core.sticky.barrier import Barrier
from meshlb.core.sticky.pin import NEVER
from meshlb.core.sticky.replica import Replica
from meshlb.core.sticky.stamps import StampClock
from meshlb.core.sticky.standing import ClaimCounters, Standing
from meshlb.model import NodeName, SessionKey
from meshlb.wire.messages import PinRecord, Rank
from protocol.reference import merge as reference
from tests.fakes.pins import NOW, DictStore
from tests.scenarios.forms import Fields, key_of, load, named, record

KEY = key_of("0080")

Told = list[Fields]


class Member(Protocol):
    """Either implementation, as a scenario sees it."""

    def receive(self, told: PinRecord, now_ms: int) -> None: ...

    def unpin(self, by: str, now_ms: int) -> None: ...

    def seen(self, now_ms: int) -> Fields: ...


class Meshlb:
    def __init__(self) -> None:
        self._store = DictStore()

    def _replica(self, name: str) -> Replica:
        standing = Standing(NodeName(name), Barrier(NodeName(name)))
        return Replica(self._store, standing, StampClock(), ClaimCounters())

    def receive(self, told: PinRecord, now_ms: int) -> None:
        if told.expires_in_ms:
            self._replica("me").merge_record(told, NOW + now_ms / 1_000)

    def unpin(self, by: str, now_ms: int) -> None:
        self._replica(by).unpin(KEY, NOW + now_ms / 1_000)

    def seen(self, now_ms: int) -> Fields:
        routed = self._replica("me").look_up(KEY, NOW + now_ms / 1_000)
        seen: Fields = {
            "routed": routed.backend if routed else "",
            "nothing": KEY not in self._store,
        }
        if KEY in self._store:
            pin = self._store[KEY]
            ends = None if pin.ends_at == NEVER else round((pin.ends_at - NOW) * 1_000)
            seen |= {name: getattr(pin, name) for name in ("backend", "epoch", "claimer", "pool")}
            seen |= {"by": pin.by.value, "rank": pin.rank.name, "stamp_ms": pin.stamp_ms}
            seen |= {"expires_at_ms": round((pin.expires_at - NOW) * 1_000), "ends_at_ms": ends}
        return seen


class Witness:
    def __init__(self) -> None:
        self._table = reference.Table()

    def receive(self, told: PinRecord, now_ms: int) -> None:
        fields = dataclasses.asdict(told) | {"key": told.key.hex(), "rank": told.rank.value}
        self._table.receive(fields | {"by": told.by.value}, now_ms=now_ms)

    def unpin(self, by: str, now_ms: int) -> None:
        self._table.unpin(KEY.hex(), stamp_ms=9_000, claimer=by, now_ms=now_ms)

    def seen(self, now_ms: int) -> Fields:
        pin = self._table.records.get(KEY.hex())
        routed = self._table.look_up(KEY.hex(), now_ms=now_ms)
        seen: Fields = {"routed": routed or "", "nothing": pin is None}
        if pin is not None:
            seen |= dataclasses.asdict(pin) | {"rank": Rank(pin.rank).name}
            seen |= {"expires_at_ms": pin.expires_at, "ends_at_ms": pin.ends_at}
        return seen


def orders(scenario: Fields) -> list[Told]:
    told = scenario["told"]
    if not scenario.get("any_order"):
        return [told]
    return [[*order, order[0]] for order in itertools.permutations(told)]


@pytest.mark.parametrize("implementation", [Meshlb, Witness])
@pytest.mark.parametrize("scenario", named(load("merge")["scenario"]))
def test_a_table_holds_what_the_scenario_says(
    scenario: Fields, implementation: type[Member]
) -> None:
    expected = dict(scenario["expect"])
    look_at_ms = expected.pop("at_ms", 0)
    for told in orders(scenario):
        member = implementation()
        for delivery in told:
            at_ms = delivery.get("at_ms", 0)
            if "unpin" in delivery:
                member.unpin(delivery["unpin"], at_ms)
            else:
                member.receive(record(delivery, SessionKey(KEY)), at_ms)
        seen: dict[str, Any] = member.seen(look_at_ms)
        assert {name: seen[name] for name in expected} == expected
