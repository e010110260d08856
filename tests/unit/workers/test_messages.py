import msgpack
import pytest

from meshlb.core.sticky.pin import NEVER
from meshlb.errors import WorkerError
from meshlb.model import BackendName, KeySource, PoolName
from meshlb.workers import messages
from meshlb.workers.messages import (
    Answer,
    Claim,
    Open,
    Plant,
    Touch,
    decode,
    encode,
    pack_pin,
    pack_places,
    pack_proposal,
    unpack_pin,
    unpack_places,
    unpack_proposal,
)
from tests.fakes.pins import a_key, a_pin, a_proposal


def test_a_batch_is_read_as_it_was_written() -> None:
    touch, answer = Touch(a_key(), "s1", 3, 60.0), Answer(7, pack_pin(a_pin()), "")
    said = [Open(), touch, answer, Plant([], None)]
    assert decode(b"".join(map(encode, said))) == said


@pytest.mark.parametrize(
    "pin", [a_pin(), a_pin("", by=KeySource.COOKIE, epoch=9), a_pin(ends_at=5.5)]
)
def test_pins_survive_the_way(pin) -> None:
    (answer,) = decode(encode(Answer(1, pack_pin(pin), "")))
    assert isinstance(answer, Answer)
    assert answer.pin is not None
    assert unpack_pin(answer.pin) == pin


def test_a_pin_without_an_end_has_none_afterwards() -> None:
    assert unpack_pin(pack_pin(a_pin())).ends_at == NEVER


@pytest.mark.parametrize(
    "proposal",
    [a_proposal(a_key()), a_proposal(a_key(), max_age_s=9.0, moved_from="s2", moved_from_epoch=4)],
)
def test_proposals_survive_the_way(proposal) -> None:
    (claim,) = decode(encode(Claim(1, pack_proposal(proposal))))
    assert isinstance(claim, Claim)
    assert unpack_proposal(claim.proposal) == proposal


def test_places_survive_the_way() -> None:
    places = {(PoolName("app"), BackendName("s1")): 0, (PoolName("b"), BackendName("s1")): 1}
    assert unpack_places(pack_places(places)) == places


@pytest.mark.parametrize(
    "batch",
    [
        b"\xc1",
        msgpack.packb(5),
        msgpack.packb([]),
        msgpack.packb([99]),
        msgpack.packb(["x"]),
        msgpack.packb([messages._NUMBERS[Touch], b"k"]),
        encode(Open())[:-1] + b"\xff\xff",
    ],
)
def test_what_is_no_batch_is_an_error_of_the_worker(batch: bytes) -> None:
    with pytest.raises(WorkerError):
        decode(batch)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (0, b"short"),
        (0, "text" * 4),
        (1, 5),
        (2, None),
        (3, "nowhere"),
        (4, "x"),
        (7, -1),
        (7, 1.5),
    ],
)
def test_a_proposal_that_makes_no_sense_is_refused(field: int, value: object) -> None:
    packed = pack_proposal(a_proposal(a_key()))
    packed[field] = value
    with pytest.raises(WorkerError):
        unpack_proposal(packed)
    with pytest.raises(WorkerError):
        unpack_proposal(packed[:-1])
