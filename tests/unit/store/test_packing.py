import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshlb.core.sticky.pin import (
    EPOCH_MAX,
    NEVER,
    STAMP_MS_MAX,
    Pin,
    is_acceptable,
    pin_from_record,
)
from meshlb.model import BackendName, KeySource, NodeName, PoolName
from meshlb.store.names import Names
from meshlb.store.packing import (
    expiry_ms,
    is_retired,
    is_tombstone,
    is_well,
    pack,
    retired,
    unpack,
)
from meshlb.wire.messages import PinRecord, Rank
from tests.fakes.pins import NOW, a_key, a_pin

names_of = st.sampled_from(["app", "s1", "lb-1", "é" * 31])
times_ms = st.integers(0, 2**48 - 1)
numbers = st.sampled_from([0, 1, EPOCH_MAX, STAMP_MS_MAX, 2**64 - 1]) | st.integers(0, 2**64 - 1)

some_pins = st.builds(
    Pin,
    pool=names_of.map(PoolName),
    backend=(names_of | st.just("")).map(BackendName),
    by=st.sampled_from(KeySource),
    epoch=st.integers(0, EPOCH_MAX),
    rank=st.sampled_from(Rank),
    stamp_ms=st.integers(0, STAMP_MS_MAX),
    claimer=names_of.map(NodeName),
    expires_at=times_ms.map(lambda ms: ms / 1_000),
    ends_at=st.just(NEVER) | times_ms.map(lambda ms: ms / 1_000),
)


@given(some_pins)
def test_a_pin_comes_back_as_it_was(pin: Pin) -> None:
    names = Names()
    assert unpack(pack(pin, names), names) == pin


@given(some_pins)
def test_what_the_sweep_reads_is_where_it_says(pin: Pin) -> None:
    value = pack(pin, Names())
    assert expiry_ms(value) == round(pin.expires_at * 1_000)
    assert is_tombstone(value) == pin.is_tombstone
    assert not is_retired(value)
    is_agreed = pin.rank is not Rank.PROVISIONAL
    assert is_well(value, 0) == (is_agreed and not pin.is_tombstone and expiry_ms(value) > 0)
    assert not is_well(value, expiry_ms(value))


@given(some_pins)
def test_retiring_a_pin_changes_nothing_else(pin: Pin) -> None:
    names = Names()
    value = retired(pack(pin, names))
    assert is_retired(value)
    assert unpack(value, names) == pin
    assert retired(value) == value


def test_the_format_is_fixed() -> None:
    """A store of an older version must be readable; a change raises FORMAT."""
    pin = a_pin("s1", epoch=3, rank=Rank.QUORATE, stamp_ms=0x0102030405, expires_at=NOW)
    names = Names(["app", "s1", "n1"])
    stamp_and_claimer, expiry_and_pool = "0200050403020100", "00000068e5cf8b01"
    epoch, backend, flags = "03000000", "0100", "23"
    assert pack(pin, names).hex() == (stamp_and_claimer + expiry_and_pool + epoch + backend + flags)
    assert len(pack(a_pin(ends_at=NOW), names)) == 29


@pytest.mark.parametrize("value", [b"", b"\x00" * 22, b"\xff" * 23])
def test_a_damaged_value_raises_and_nothing_else(value: bytes) -> None:
    with pytest.raises((struct.error, IndexError)):
        unpack(value, Names(["app"]))


@given(
    st.builds(
        PinRecord,
        key=st.just(a_key()),
        pool=names_of,
        backend=names_of | st.just(""),
        by=st.sampled_from(KeySource),
        epoch=numbers,
        rank=st.sampled_from(Rank),
        stamp_ms=numbers,
        claimer=names_of,
        expires_in_ms=numbers,
        ends_in_ms=numbers,
    )
)
def test_whatever_a_peer_may_send_can_be_stored(record: PinRecord) -> None:
    if is_acceptable(record):
        names = Names()
        pin = unpack(pack(pin_from_record(record, now=NOW), names), names)
        assert (pin.epoch, pin.stamp_ms, pin.backend) == (
            record.epoch,
            record.stamp_ms,
            record.backend,
        )
