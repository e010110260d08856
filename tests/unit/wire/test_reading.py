"""The compiled check of every field: what is taken, what is refused."""

import dataclasses
import enum

import pytest

from meshlb.errors import WireError
from meshlb.model import Address, NodeName, SessionKey
from meshlb.wire.limits import VALUES_PER_FIELD_MAX
from meshlb.wire.reading import decoder, fields_decoder


class Colour(enum.IntEnum):
    RED = 0
    BLUE = 1


@dataclasses.dataclass(frozen=True)
class Inner:
    key: SessionKey


@dataclasses.dataclass(frozen=True)
class Outer:
    count: int
    is_on: bool
    name: NodeName
    colour: Colour
    inner: Inner | None
    addresses: tuple[Address, ...]
    later: int = 7


KEY = b"k" * 16
GOOD = (1, True, "lb-1", 1, (KEY,), (("10.0.0.1", 80),), 9)
MADE = Outer(
    1, True, NodeName("lb-1"), Colour.BLUE, Inner(SessionKey(KEY)), (Address("10.0.0.1", 80),), 9
)

read = fields_decoder(Outer)


def test_every_kind_of_field_is_read() -> None:
    assert read(GOOD) == MADE
    assert isinstance(read(GOOD).colour, Colour)
    assert read((*GOOD[:4], None, *GOOD[5:])).inner is None


def test_fields_that_a_later_version_appends_are_ignored() -> None:
    assert read((*GOOD, "new")) == MADE


def test_a_field_with_a_default_may_be_left_out() -> None:
    assert read(GOOD[:6]) == dataclasses.replace(MADE, later=7)


def test_what_precedes_the_fields_is_skipped() -> None:
    assert fields_decoder(Outer, skipped=1)((99, *GOOD)) == MADE
    assert fields_decoder(Outer, skipped=1)((99, *GOOD[:6])) == dataclasses.replace(MADE, later=7)


@pytest.mark.parametrize(
    ("place", "bad"),
    [
        (0, -1), (0, True), (0, 1.0), (0, "1"), (0, None),
        (1, 1), (1, None),
        (2, b"lb-1"), (2, ""), (2, "lb 1"), (2, "x" * 64),
        (3, 2), (3, True), (3, "RED"), (3, ()), (3, 1.0),
        (4, KEY), (4, ()), (4, (KEY + b"k",)), (4, ("k" * 16,)),
        (5, ("10.0.0.1", 80)), (5, (("host", 80),)), (5, (("10.0.0.1", 65_536),)),
        (5, (("10.0.0.1", 80),) * (VALUES_PER_FIELD_MAX + 1)),
        (6, None),
    ],
)  # fmt: skip
def test_a_field_of_another_type_or_range_is_refused(place: int, bad: object) -> None:
    with pytest.raises(WireError):
        read((*GOOD[:place], bad, *GOOD[place + 1 :]))


def test_too_few_fields_are_refused() -> None:
    for count in range(6):
        with pytest.raises(WireError):
            read(GOOD[:count])
        with pytest.raises(WireError):
            fields_decoder(Outer, skipped=1)((99, *GOOD[:count]))


def test_an_annotation_without_a_wire_form_is_a_bug_that_shows_at_import() -> None:
    with pytest.raises(TypeError, match="no wire form"):
        decoder(float)
