import pytest

from meshlb.model import BackendName, PoolName
from meshlb.store.counts import PinCounts
from meshlb.store.names import Names
from tests.fakes.pins import a_pin

S1, S2 = [(PoolName("app"), BackendName(name)) for name in ("s1", "s2")]


def test_pins_are_counted_by_backend_and_in_all() -> None:
    counts = PinCounts()
    for backend, change in (("s1", 3), ("s1", -1), ("s2", 1), ("s3", 1), ("s3", -1)):
        counts.change(a_pin(backend), change)
    assert (len(counts), counts.all()) == (3, {S1: 2, S2: 1})


def test_only_what_has_changed_is_written_and_what_was_written_is_read_again() -> None:
    names, counts = Names(), PinCounts()
    counts.change(a_pin("s1"), 3)
    assert not counts.is_saved
    rows = counts.unsaved(names)
    counts.saved()
    assert counts.is_saved
    counts.change(a_pin("s2"), 1)
    (row,) = counts.unsaved(names)
    assert PinCounts.load([*rows, row], names).all() == {S1: 3, S2: 1}


def test_damaged_rows_are_errors() -> None:
    with pytest.raises(IndexError):
        PinCounts.load([(b"\0\1\0\2", b"3")], Names())
    with pytest.raises(ValueError, match="invalid literal"):
        PinCounts.load([(b"\0\0\0\0", b"x")], Names(["app"]))
