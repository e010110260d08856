"""The scenarios of logs, gaps and tables that are compared by hash."""

import pytest

from meshlb.core.sticky.digest import Buckets, live_hash
from meshlb.core.sticky.intake import Intake
from meshlb.core.sticky.log import ReplicationLog
from meshlb.core.sticky.pin import Pin, pin_from_record
from meshlb.model import BootId, NodeName, SessionKey
from meshlb.wire.messages import Delta, DeltaAck, PinRecord
from protocol.reference import repair as reference
from tests.fakes.pins import NOW, a_pin
from tests.scenarios.forms import Fields, key_of, load, named, record

FILE = load("logs")
PEER = NodeName("b")
Table = list[tuple[SessionKey, Pin]]


def key_named(name: str) -> SessionKey:
    return key_of(name.encode().hex())


@pytest.mark.parametrize("scenario", named(FILE["log"]))
def test_a_stream_begins_where_the_log_continues(scenario: Fields) -> None:
    log = ReplicationLog(BootId(7), entries_max=scenario.get("kept", 100))
    for name in scenario["appended"]:
        log.append(key_named(name), a_pin())
    log.open(PEER, *scenario["position"])
    delta = log.next_delta(PEER, NOW)
    if "delta" not in scenario:
        assert delta is None
        return
    assert delta is not None
    expected = dict(scenario["delta"])
    keys = [key_named(name) for name in expected.pop("keys")]
    assert [told.key for told in delta.pins] == keys
    assert {name: getattr(delta, name) for name in expected} == expected


@pytest.mark.parametrize("scenario", named(FILE["intake"]))
def test_gaps_and_acknowledgements_are_those_of_the_scenario(scenario: Fields) -> None:
    intake = Intake()
    gaps = [
        not intake.advance(PEER, Delta(pins=(), **delta_fields))
        for delta_fields in scenario["deltas"]
    ]
    assert gaps == scenario["gaps"]
    assert intake.position(PEER) == DeltaAck(*scenario["position"])


def records(listed: list[Fields]) -> list[PinRecord]:
    return [
        record(fields | {"expires_in_ms": fields.get("left_ms", 60_000)}, key_of(fields["key"]))
        for fields in listed
    ]


def table(listed: list[Fields]) -> Table:
    return [(said.key, pin_from_record(said, now=NOW)) for said in records(listed)]


def witnessed(listed: list[Fields]) -> list[reference.Record]:
    names = ("pool", "backend", "epoch", "stamp_ms", "claimer", "expires_in_ms")
    return [
        {
            "key": said.key.hex(),
            "by": said.by.value,
            "rank": said.rank.value,
            **{name: getattr(said, name) for name in names},
        }
        for said in records(listed)
    ]


def sums(of: Table) -> Buckets:
    buckets = Buckets()
    buckets.count(sorted(of))
    buckets.count([])
    return buckets


@pytest.mark.parametrize("scenario", named(FILE["tables"]))
def test_tables_are_alike_or_differ_as_the_scenario_says(scenario: Fields) -> None:
    mine, theirs = table(scenario["mine"]), table(scenario["theirs"])
    assert (sums(mine).total == sums(theirs).total) == scenario["alike"]
    suspects = sums(mine).differing(sums(theirs).sums())
    differing = [
        bucket
        for bucket in suspects
        if live_hash(in_bucket(mine, bucket), NOW) != live_hash(in_bucket(theirs, bucket), NOW)
    ]
    assert differing == scenario["differing"]


@pytest.mark.parametrize("scenario", named(FILE["tables"]))
def test_the_reference_says_the_same(scenario: Fields) -> None:
    mine, theirs = witnessed(scenario["mine"]), witnessed(scenario["theirs"])
    assert (reference.table_sum(mine) == reference.table_sum(theirs)) == scenario["alike"]
    assert reference.differing(mine, theirs) == scenario["differing"]
    assert reference.table_sum(mine) == sums(table(scenario["mine"])).total


def in_bucket(of: Table, bucket: int) -> Table:
    return [(key, pin) for key, pin in of if reference.bucket(key) == bucket]
