import msgpack
import pytest

from meshlb.errors import WireError
from meshlb.model import Address, BackendName, BootId, KeySource, NodeName, PoolName, SessionKey
from meshlb.wire.codec import decode, encode, encode_message, join
from meshlb.wire.limits import (
    DATAGRAM_PLAIN_BYTES_MAX,
    FRAME_PLAIN_BYTES_MAX,
    MESSAGES_PER_FRAME_MAX,
    PINS_PER_MESSAGE_MAX,
)
from meshlb.wire.messages import (
    TYPE_IDS,
    Ack,
    ClaimAnswer,
    Delta,
    MemberState,
    MemberUpdate,
    Message,
    Ping,
    PingRequest,
    PinRecord,
    PushPull,
    Rank,
    Verdict,
)

NAME = "n" * 63
LONGEST_PIN = PinRecord(
    SessionKey(b"k" * 16),
    PoolName("p" * 63),
    BackendName("b" * 63),
    KeySource.APP_COOKIE,
    2**64 - 1,
    Rank.QUORATE,
    2**64 - 1,
    NodeName(NAME),
    2**64 - 1,
    2**64 - 1,
)
MEMBER = MemberUpdate(
    NodeName("lb-1"), Address("::1", 7946), BootId(1), 2, MemberState.ALIVE, True, NodeName("lb-2")
)


def packed(*messages: object) -> bytes:
    encoded: bytes = msgpack.packb(list(messages))
    return encoded


def test_a_batch_comes_back_in_order() -> None:
    batch: tuple[Message, ...] = (
        Ping(1, NodeName("lb-2")),
        PushPull((MEMBER,), True),
        ClaimAnswer(9, Verdict.EXISTS, LONGEST_PIN),
        ClaimAnswer(10, Verdict.FENCED, None),
    )
    assert decode(encode(batch)) == batch


def test_messages_encoded_apart_join_into_the_same_bytes() -> None:
    batch = (Ack(1), Ack(2), MEMBER)
    assert join([encode_message(message) for message in batch]) == encode(batch)


def test_an_empty_batch_is_a_batch() -> None:
    assert decode(encode(())) == ()


def test_fields_of_a_later_version_are_ignored() -> None:
    assert decode(packed([3, 77, "new", [1]])) == (Ack(77),)


def test_fields_of_a_later_version_are_ignored_in_nested_values_too() -> None:
    pin = [b"k" * 16, "app", "s1", "header", 0, 2, 5, "lb-1", 9, 0, "new"]
    (answer,) = decode(packed([17, 1, 0, pin]))
    assert isinstance(answer, ClaimAnswer)
    assert answer.pin is not None
    assert answer.pin.expires_in_ms == 9


def test_the_fullest_messages_fit_a_frame() -> None:
    delta = Delta(BootId(2**64 - 1), 2**64 - 1, 2**64 - 1, (LONGEST_PIN,) * PINS_PER_MESSAGE_MAX)
    assert len(encode([delta])) <= FRAME_PLAIN_BYTES_MAX
    assert decode(encode([delta])) == (delta,)


def test_a_ping_and_several_member_updates_fit_a_datagram() -> None:
    longest = MemberUpdate(
        NodeName(NAME),
        Address("ffff:" * 7 + "ffff", 65_535),
        BootId(2**64 - 1),
        2**64 - 1,
        MemberState.SUSPECT,
        True,
        NodeName(NAME),
    )
    batch = (PingRequest(2**32, NodeName(NAME), longest.address), *(longest,) * 4)
    assert len(encode(batch)) <= DATAGRAM_PLAIN_BYTES_MAX


def test_a_message_larger_than_a_frame_is_not_sent() -> None:
    with pytest.raises(WireError, match="fits no frame"):
        encode([Delta(BootId(1), 0, 1, (LONGEST_PIN,) * 2_000)])


def test_too_many_items_are_refused() -> None:
    with pytest.raises(WireError):
        decode(packed(*[[3, 1]] * (MESSAGES_PER_FRAME_MAX + 1)))
    short = [b"k" * 16, "a", "", "query", 0, 0, 0, "x", 0, 0]
    with pytest.raises(WireError, match="at most 512"):
        decode(packed([20, 1, 0, 1, [short] * (PINS_PER_MESSAGE_MAX + 1)]))


def test_deep_nesting_is_refused() -> None:
    with pytest.raises(WireError):
        decode(b"\x91" * 100_000 + b"\x90")


@pytest.mark.parametrize("type_id", TYPE_IDS)
def test_a_message_without_its_last_field_is_refused(type_id: int) -> None:
    with pytest.raises(WireError, match="lacks fields"):
        decode(packed([type_id]))
