import pytest

from meshlb.errors import SealError
from meshlb.model import BootId, NodeName
from meshlb.wire.limits import (
    DATAGRAM_BYTES_MAX,
    DATAGRAM_PLAIN_BYTES_MAX,
    FRAME_PLAIN_BYTES_MAX,
    FRAME_SEALED_BYTES_MAX,
    KEYRING_SECRETS_MAX,
    REPLAY_SENDERS_MAX,
    REPLAY_WINDOW_BITS,
)
from meshlb.wire.seal import (
    DatagramError,
    DatagramOpener,
    DatagramSealer,
    FrameOpener,
    FrameSealer,
    Keyring,
    ReplayWindow,
    cluster_label,
)

OLD, NEW = b"o" * 32, b"n" * 32
SHOP = cluster_label("shop")
LB_1, BOOT = NodeName("lb-1"), BootId(7)


def sealer(
    *secrets: bytes, cluster: str = "shop", boot_id: int = BOOT, name: str = LB_1
) -> DatagramSealer:
    return DatagramSealer(
        Keyring(secrets or (OLD,)),
        label=cluster_label(cluster),
        sender=NodeName(name),
        boot_id=BootId(boot_id),
    )


def opener(*secrets: bytes) -> DatagramOpener:
    opener = DatagramOpener(Keyring(secrets or (OLD,)), label=SHOP)
    opener.introduce(LB_1, BOOT)
    opener.prove(LB_1, BOOT, counter=0)
    return opener


def refusal(opener: DatagramOpener, datagram: bytes) -> str:
    with pytest.raises(DatagramError) as caught:
        opener.open(datagram)
    return caught.value.reason


def test_a_datagram_opens_and_names_its_sender() -> None:
    opened = opener().open(sealer().seal(b"hello"))
    assert (opened.sender, opened.boot_id, opened.plain) == (LB_1, BOOT, b"hello")


def test_a_datagram_opens_once() -> None:
    receiver, datagram = opener(), sealer().seal(b"hello")
    receiver.open(datagram)
    assert refusal(receiver, datagram) == "replay"


def test_every_flipped_bit_is_refused_and_leaves_the_window_alone() -> None:
    receiver, datagram = opener(), sealer().seal(b"hello")
    for index in range(len(datagram)):
        for bit in range(8):
            forged = bytearray(datagram)
            forged[index] ^= 1 << bit
            refusal(receiver, bytes(forged))
    assert receiver.open(datagram).plain == b"hello"


def test_every_truncation_is_refused() -> None:
    receiver, datagram = opener(), sealer().seal(b"hello")
    for size in range(len(datagram)):
        refusal(receiver, datagram[:size])


def test_the_reason_of_a_refusal_says_what_differs() -> None:
    receiver = opener()
    assert refusal(receiver, b"x" * (DATAGRAM_BYTES_MAX + 1)) == "malformed"
    assert refusal(receiver, b"\x02" + sealer().seal(b"")[1:]) == "version"
    assert refusal(receiver, sealer(cluster="other").seal(b"")) == "cluster"
    assert refusal(receiver, sealer(NEW).seal(b"")) == "key"
    assert refusal(receiver, sealer(boot_id=8).seal(b"")) == "unknown"
    assert refusal(receiver, sealer().seal(b"")[:-1] + b"!") == "seal"


def test_the_longest_plaintext_under_the_longest_name_fits_a_datagram() -> None:
    longest = sealer(name="n" * 63).seal(b"x" * DATAGRAM_PLAIN_BYTES_MAX)
    assert len(longest) == DATAGRAM_BYTES_MAX


def test_all_secrets_open_and_the_first_seals() -> None:
    assert opener(NEW, OLD).open(sealer(OLD, NEW).seal(b"old")).plain == b"old"
    assert opener(NEW, OLD).open(sealer(NEW, OLD).seal(b"new")).plain == b"new"
    assert refusal(opener(NEW), sealer(OLD, NEW).seal(b"")) == "key"


def test_a_changed_keyring_keeps_counter_and_windows() -> None:
    sender, receiver = sealer(OLD), opener(OLD)
    first = sender.seal(b"1")
    receiver.open(first)
    sender.use(Keyring((NEW, OLD)))
    receiver.use(Keyring((NEW, OLD)))
    assert receiver.open(sender.seal(b"2")).plain == b"2"
    assert refusal(receiver, first) == "replay"


def test_a_late_datagram_opens_within_the_window_and_not_behind_it() -> None:
    sender, receiver = sealer(), opener()
    datagrams = [sender.seal(b"") for _ in range(REPLAY_WINDOW_BITS + 1)]
    receiver.open(datagrams[-1])
    receiver.open(datagrams[1])
    assert refusal(receiver, datagrams[0]) == "replay"


def test_a_sender_that_has_not_proven_its_counter_opens_as_such_and_leaves_no_trace() -> None:
    sender, receiver = sealer(), DatagramOpener(Keyring((OLD,)), label=SHOP)
    receiver.introduce(LB_1, BOOT)
    recorded = sender.seal(b"recorded")
    for _ in range(2):
        opened = receiver.open(recorded)
        assert (opened.is_proven, opened.counter) == (False, 1)
    assert refusal(receiver, recorded[:-1] + b"!") == "seal"


def test_everything_sealed_before_the_proof_is_a_replay_after_it() -> None:
    sender, receiver = sealer(), DatagramOpener(Keyring((OLD,)), label=SHOP)
    receiver.introduce(LB_1, BOOT)
    recorded = [sender.seal(b"recorded") for _ in range(5)]
    answer = sender.seal(b"answer")
    receiver.prove(LB_1, BOOT, counter=receiver.open(answer).counter)
    assert {refusal(receiver, datagram) for datagram in [*recorded, answer]} == {"replay"}
    later = sender.seal(b"later")
    assert receiver.open(later).is_proven
    receiver.prove(LB_1, BOOT, counter=0)
    assert refusal(receiver, later) == "replay"


def test_a_stranger_cannot_be_proven() -> None:
    receiver = opener()
    receiver.prove(LB_1, BootId(99), counter=1)
    assert not receiver.is_proven(LB_1, BootId(99))
    assert refusal(receiver, sealer(boot_id=99).seal(b"")) == "unknown"


def test_the_window_forgets_nothing_when_it_jumps_ahead() -> None:
    window = ReplayWindow()
    window.mark(5)
    window.mark(10 * REPLAY_WINDOW_BITS)
    assert not window.is_fresh(5)
    assert not window.is_fresh(10 * REPLAY_WINDOW_BITS)
    assert window.is_fresh(10 * REPLAY_WINDOW_BITS - 1)


def test_introductions_are_bounded_and_the_oldest_makes_room() -> None:
    receiver = opener()
    for boot_id in range(1_000, 1_000 + REPLAY_SENDERS_MAX):
        receiver.introduce(LB_1, BootId(boot_id))
    assert not receiver.knows(LB_1, BOOT)
    assert receiver.knows(LB_1, BootId(1_000))


def test_a_keyring_refuses_too_many_or_too_short_secrets_and_hides_them() -> None:
    with pytest.raises(ValueError, match="1 to 8"):
        Keyring((OLD,) * (KEYRING_SECRETS_MAX + 1))
    with pytest.raises(ValueError, match="32 bytes"):
        Keyring((b"short",))
    assert "ooo" not in repr(Keyring((OLD,)))


def test_frames_open_in_order_whatever_pieces_they_arrive_in() -> None:
    sender, receiver = FrameSealer(OLD), FrameOpener(OLD)
    stream = b"".join(sender.seal(plain) for plain in (b"one", b"", b"x" * FRAME_PLAIN_BYTES_MAX))
    received: list[bytes] = []
    for start in range(0, len(stream), 50_021):
        received += receiver.receive(stream[start : start + 50_021])
    assert received == [b"one", b"", b"x" * FRAME_PLAIN_BYTES_MAX]
    assert receiver.buffered_bytes == 0


def test_a_repeated_frame_breaks_the_stream() -> None:
    receiver, frame = FrameOpener(OLD), FrameSealer(OLD).seal(b"one")
    assert list(receiver.receive(frame)) == [b"one"]
    with pytest.raises(SealError):
        list(receiver.receive(frame))


def test_a_frame_length_out_of_range_is_refused_before_the_frame_arrives() -> None:
    for length in (0, 15, FRAME_SEALED_BYTES_MAX + 1, 2**32 - 1):
        with pytest.raises(SealError):
            list(FrameOpener(OLD).receive(length.to_bytes(4, "big")))
