from dataclasses import replace

import msgpack
import pytest

from meshlb.errors import SealError, WireError
from meshlb.model import Address, BootId, NodeName
from meshlb.wire import handshake
from meshlb.wire.handshake import (
    Established,
    Identity,
    Initiator,
    Proven,
    RefusedByPeer,
    RefusedPeer,
    Responder,
    Send,
    refuse_frame,
)
from meshlb.wire.refusal import Refusal
from meshlb.wire.seal import Keyring, cluster_label
from meshlb.wire.versions import (
    ALL_FEATURES,
    FIRST,
    NO_FEATURES,
    OURS,
    VERSION_MAX,
    Dialect,
    Feature,
    Versions,
)

ALICE = Identity(NodeName("alice"), BootId(1), Address("127.0.0.1", 7001))
BOB = Identity(NodeName("bob"), BootId(2), Address("127.0.0.1", 7002))
SECRET, OTHER = b"s" * 32, b"t" * 32
LATER = Versions(VERSION_MAX + 1, VERSION_MAX + 2, ALL_FEATURES)


def initiator(
    me: Identity = ALICE,
    *,
    secrets: tuple[bytes, ...] = (SECRET,),
    cluster: str = "shop",
    versions: Versions = OURS,
) -> Initiator:
    return Initiator(
        me,
        keyring=Keyring(secrets),
        label=cluster_label(cluster),
        ephemeral=b"a" * 32,
        versions=versions,
    )


def responder(
    me: Identity = BOB, *, secrets: tuple[bytes, ...] = (SECRET,), versions: Versions = OURS
) -> Responder:
    return Responder(
        me,
        keyring=Keyring(secrets),
        label=cluster_label("shop"),
        ephemeral=b"b" * 32,
        versions=versions,
    )


def welcome(dialler: Initiator, dialled: Responder) -> bytes:
    (step,) = dialled.receive(dialler.start().payload)
    assert isinstance(step, Send)
    return step.payload


def prove(dialler: Initiator, dialled: Responder) -> bytes:
    """What the dialler answers to the welcome."""
    (proven,) = dialler.receive(welcome(dialler, dialled))
    assert isinstance(proven, Proven)
    return dialler.confirm().payload


def shake(dialler: Initiator, dialled: Responder) -> tuple[Established, Established]:
    (proven,) = dialled.receive(prove(dialler, dialled))
    assert isinstance(proven, Proven)
    accept, inside = dialled.accept()
    (outside,) = dialler.receive(accept.payload)
    assert isinstance(outside, Established)
    return outside, inside


def refused(dialler: Initiator, dialled: Responder) -> Refusal:
    """The reason that the responder gives; it must reach the dialler."""
    (step,) = dialled.receive(dialler.start().payload)
    assert isinstance(step, RefusedPeer)
    assert dialler.receive(step.payload) == [RefusedByPeer(step.reason)]
    return step.reason


def test_both_learn_who_the_other_is_and_frames_pass_both_ways() -> None:
    at_alice, at_bob = shake(initiator(), responder())
    assert (at_alice.peer, at_bob.peer) == (BOB, ALICE)
    assert list(at_bob.opener.receive(at_alice.sealer.seal(b"to bob"))) == [b"to bob"]
    assert list(at_alice.opener.receive(at_bob.sealer.seal(b"to alice"))) == [b"to alice"]


def test_a_frame_cannot_be_played_back_to_its_sender() -> None:
    at_alice, _ = shake(initiator(), responder())
    with pytest.raises(SealError, match="not authentic"):
        list(at_alice.opener.receive(at_alice.sealer.seal(b"to bob")))


def test_nodes_with_one_secret_in_common_agree_on_it_in_either_order() -> None:
    shake(initiator(secrets=(OTHER, SECRET)), responder(secrets=(SECRET,)))
    shake(initiator(secrets=(SECRET,)), responder(secrets=(OTHER, SECRET)))


def test_another_secret_is_refused() -> None:
    assert refused(initiator(secrets=(OTHER,)), responder()) is Refusal.OTHER_SECRET


def test_another_cluster_is_refused() -> None:
    assert refused(initiator(cluster="shop-2"), responder()) is Refusal.OTHER_CLUSTER


def test_another_node_of_the_same_name_is_refused() -> None:
    twin = replace(BOB, boot_id=BootId(3))
    assert refused(initiator(twin), responder()) is Refusal.NAME_TAKEN


def test_a_node_that_dialled_itself_is_told_so() -> None:
    assert refused(initiator(BOB), responder()) is Refusal.SELF


def test_no_common_version_is_refused() -> None:
    assert refused(initiator(versions=LATER), responder()) is Refusal.OTHER_VERSION
    assert refused(initiator(), responder(versions=LATER)) is Refusal.OTHER_VERSION


@pytest.mark.parametrize(
    ("one", "other", "agreed"),
    [
        (OURS, OURS, Dialect(VERSION_MAX, ALL_FEATURES)),
        (OURS, FIRST, Dialect(1)),
        (Versions(2, 7, Feature(2**40 - 1)), OURS, Dialect(2, ALL_FEATURES)),
        (Versions(1, 2, NO_FEATURES), OURS, Dialect(2)),
        (Versions(1, 1, ALL_FEATURES), OURS, Dialect(1)),
    ],
)
def test_both_settle_on_the_highest_common_version_and_the_features_of_both(
    one: Versions, other: Versions, agreed: Dialect
) -> None:
    for dialler, dialled in ((one, other), (other, one)):
        sides = shake(initiator(versions=dialler), responder(versions=dialled))
        assert [side.dialect for side in sides] == [agreed, agreed]


def test_a_welcome_in_a_version_that_was_not_offered_is_refused() -> None:
    dialled = responder(versions=Versions(1, 2, ALL_FEATURES))
    dialler = initiator(versions=FIRST)
    offer = Initiator(
        ALICE, keyring=Keyring((SECRET,)), label=cluster_label("shop"), ephemeral=b"a" * 32
    )
    dialler.start()
    (answer,) = dialled.receive(offer.start().payload)
    assert isinstance(answer, Send)
    (step,) = dialler.receive(answer.payload)
    assert isinstance(step, RefusedPeer)
    assert step.reason is Refusal.OTHER_VERSION


@pytest.mark.parametrize(
    ("place", "value"), [(1, 1), (6, 0)], ids=["the highest version", "the features"]
)
def test_who_talks_both_down_on_the_way_breaks_the_proof(place: int, value: int) -> None:
    """A downgrade: both would settle for less, but neither believes the other any more."""
    dialler, dialled = initiator(), responder()
    fields = list(msgpack.unpackb(dialler.start().payload[3:]))
    fields[place] = value
    changed = handshake.frame(handshake.FrameKind.HELLO, msgpack.packb(fields))
    (answer,) = dialled.receive(changed)
    assert isinstance(answer, Send)
    (step,) = dialler.receive(answer.payload)
    assert isinstance(step, RefusedPeer)
    assert step.reason is Refusal.OTHER_SECRET


@pytest.mark.parametrize(("place", "value"), [(0, 1), (5, 0)], ids=["the version", "the features"])
def test_a_changed_welcome_breaks_the_proof(place: int, value: int) -> None:
    dialler, dialled = initiator(), responder()
    body = welcome(dialler, dialled)[3:]
    fields = list(msgpack.unpackb(body[: -handshake.PROOF_BYTES]))
    fields[place] = value
    changed = msgpack.packb(fields) + body[-handshake.PROOF_BYTES :]
    (step,) = dialler.receive(handshake.frame(handshake.FrameKind.WELCOME, changed))
    assert isinstance(step, RefusedPeer)
    assert step.reason is Refusal.OTHER_SECRET


def test_a_refusal_that_only_a_later_version_knows_is_a_refusal() -> None:
    dialler = initiator()
    dialler.start()
    reason = handshake.frame(handshake.FrameKind.REFUSE, msgpack.packb(["full-moon"]))
    assert dialler.receive(reason) == [RefusedByPeer(Refusal.UNKNOWN)]


def test_the_node_may_refuse_a_proven_peer() -> None:
    dialler, dialled = initiator(), responder()
    dialled.receive(prove(dialler, dialled))
    step = dialled.refuse(Refusal.NAME_TAKEN)
    assert step.claimed_name == "alice"
    assert dialler.receive(step.payload) == [RefusedByPeer(Refusal.NAME_TAKEN)]


def test_a_key_id_without_its_secret_proves_nothing() -> None:
    """The impostor copies the id that it saw in the clear, but cannot know the secret."""
    impostor = initiator(secrets=(OTHER,))
    real_ids = Keyring((SECRET,)).key_ids
    impostor._keyring = replace_key_ids(Keyring((OTHER,)), real_ids)
    dialled = responder()
    (step,) = impostor.receive(welcome(impostor, dialled))
    assert isinstance(step, RefusedPeer)
    forged = handshake.frame(handshake.FrameKind.PROVE, b"p" * 32)
    (answer,) = dialled.receive(forged)
    assert isinstance(answer, RefusedPeer)
    assert answer.reason is Refusal.OTHER_SECRET


def replace_key_ids(keyring: Keyring, key_ids: tuple[handshake.KeyId, ...]) -> Keyring:
    object.__setattr__(keyring, "key_ids", key_ids)
    return keyring


def test_a_changed_hello_breaks_the_proof() -> None:
    dialler, dialled = initiator(), responder()
    hello = dialler.start().payload.replace(b"alice", b"malet")
    (step,) = dialled.receive(hello)
    assert isinstance(step, Send)
    (answer,) = dialler.receive(step.payload)
    assert isinstance(answer, RefusedPeer)
    assert answer.reason is Refusal.OTHER_SECRET


def test_a_recorded_handshake_proves_nothing_to_another_start() -> None:
    dialler, dialled = initiator(), responder()
    hello = dialler.start().payload
    (answer,) = dialled.receive(hello)
    assert isinstance(answer, Send)
    assert isinstance(dialler.receive(answer.payload)[0], Proven)
    recorded_proof = dialler.confirm().payload

    later = Responder(
        BOB, keyring=Keyring((SECRET,)), label=cluster_label("shop"), ephemeral=b"c" * 32
    )
    assert isinstance(later.receive(hello)[0], Send)
    (step,) = later.receive(recorded_proof)
    assert isinstance(step, RefusedPeer)
    assert step.reason is Refusal.OTHER_SECRET


def test_a_public_key_of_low_order_is_no_handshake() -> None:
    dialler = initiator()
    dialler._public = handshake.PublicKey(bytes(32))
    with pytest.raises(WireError, match="low order"):
        responder().receive(dialler.start().payload)


def test_messages_may_arrive_byte_by_byte() -> None:
    dialler, dialled = initiator(), responder()
    steps = [step for byte in dialler.start().payload for step in dialled.receive(bytes([byte]))]
    assert len(steps) == 1


def test_bytes_behind_the_handshake_belong_to_the_frames() -> None:
    dialler, dialled = initiator(), responder()
    dialled.receive(prove(dialler, dialled))
    accept, at_bob = dialled.accept()
    (at_alice,) = dialler.receive(accept.payload + at_bob.sealer.seal(b"early"))
    assert isinstance(at_alice, Established)
    assert list(at_alice.opener.receive(at_alice.rest)) == [b"early"]


@pytest.mark.parametrize(
    "junk",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x00" * 64,
        b"\x01\xff\xff",
        handshake.frame(handshake.FrameKind.PROVE, b"x" * 32),
        handshake.frame(handshake.FrameKind.ACCEPT),
        handshake.frame(handshake.FrameKind.HELLO, b"\x90"),
        handshake.frame(handshake.FrameKind.REFUSE, b"\x91\x03"),
    ],
)
def test_what_is_no_handshake_raises_a_wire_error(junk: bytes) -> None:
    with pytest.raises(WireError):
        responder().receive(junk)


def test_a_proof_sent_twice_is_out_of_turn() -> None:
    dialler, dialled = initiator(), responder()
    proof = prove(dialler, dialled)
    dialled.receive(proof)
    with pytest.raises(WireError, match="out of turn"):
        dialled.receive(proof)


def test_an_early_accept_is_out_of_turn() -> None:
    dialler, dialled = initiator(), responder()
    dialler.receive(welcome(dialler, dialled))
    with pytest.raises(WireError, match="out of turn"):
        dialler.receive(handshake.frame(handshake.FrameKind.ACCEPT))


def test_the_dialler_may_refuse_a_proven_peer() -> None:
    dialler, dialled = initiator(), responder()
    dialler.receive(welcome(dialler, dialled))
    step = dialler.refuse(Refusal.LINKED)
    assert dialled.receive(step.payload) == [RefusedByPeer(Refusal.LINKED)]


def test_a_forged_refusal_ends_only_this_handshake() -> None:
    dialler = initiator()
    dialler.start()
    assert dialler.receive(refuse_frame(Refusal.TOO_MANY)) == [RefusedByPeer(Refusal.TOO_MANY)]
