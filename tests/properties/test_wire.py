"""Arbitrary bytes raise only errors of ours; what a node says is what its peer hears."""

import contextlib
from typing import get_type_hints

import msgpack
from hypothesis import example, given
from hypothesis import strategies as st

from meshlb.errors import SealError, WireError
from meshlb.model import (
    Address,
    BackendName,
    BootId,
    ClusterSecret,
    HashKey,
    KeyId,
    NodeName,
    PoolName,
    SessionKey,
)
from meshlb.wire.broadcast_words import Payload, Topic
from meshlb.wire.codec import decode, encode
from meshlb.wire.handshake import Identity, Initiator, Refusal, RefusedPeer, Responder
from meshlb.wire.key_words import InstalledKey, KeyWord
from meshlb.wire.limits import BUCKETS, NAME_BYTES_MAX
from meshlb.wire.messages import (
    TYPE_IDS,
    BucketNumber,
    KeyHash,
    MemberUpdate,
    Message,
    PinRecord,
    Position,
)
from meshlb.wire.runs import Hash64, PackedEnds, PackedPins, RunName
from meshlb.wire.seal import (
    CLUSTER_LABEL_BYTES,
    DatagramError,
    DatagramOpener,
    FrameOpener,
    Keyring,
    ReplayWindow,
    cluster_label,
)

numbers = st.integers(0, 2**64 - 1)
node_names = st.from_regex(rf"\A[A-Za-z0-9._-]{{1,{NAME_BYTES_MAX}}}\Z").map(NodeName)
texts = st.text(st.characters(codec="utf-8"), max_size=NAME_BYTES_MAX // 4)
scalars: dict[object, st.SearchStrategy[object]] = {
    int: numbers,
    BootId: numbers,
    Hash64: numbers,
    Topic: texts.filter(bool),
    Payload: st.binary(max_size=300).map(Payload),
    RunName: texts.filter(bool),
    PackedPins: st.binary(min_size=39, max_size=39).map(lambda packed: 3 * packed),
    PackedEnds: st.binary(min_size=8, max_size=8),
    BucketNumber: st.integers(0, BUCKETS - 1),
    int | None: st.none() | numbers,
    NodeName: node_names,
    PoolName: texts.filter(bool),
    BackendName: texts,
    SessionKey: st.binary(min_size=16, max_size=16),
    KeyId: st.binary(min_size=4, max_size=4),
    ClusterSecret: st.binary(min_size=32, max_size=32),
    HashKey: st.binary(min_size=32, max_size=32),
    Address: st.builds(Address, st.ip_addresses().map(str), st.integers(0, 65_535)),
}


def records(cls: type) -> st.SearchStrategy[object]:
    fields = {name: scalars[hint] for name, hint in get_type_hints(cls).items() if hint in scalars}
    return st.builds(cls, **fields)


scalars[MemberUpdate] = records(MemberUpdate)
scalars[PinRecord] = records(PinRecord)
scalars[InstalledKey] = records(InstalledKey)
scalars[KeyWord] = records(KeyWord)
scalars[KeyWord | None] = st.none() | scalars[KeyWord]
for _item in (InstalledKey, KeyWord, KeyId):
    scalars[tuple[_item, ...]] = st.lists(scalars[_item], max_size=3).map(tuple)
for _record in (Position, KeyHash):
    scalars[_record] = records(_record)
for _item in (Position, KeyHash, Hash64, BucketNumber, SessionKey, RunName):
    scalars[tuple[_item, ...]] = st.lists(scalars[_item], max_size=3).map(tuple)
scalars[PinRecord | None] = st.none() | scalars[PinRecord]
scalars[tuple[MemberUpdate, ...]] = st.lists(scalars[MemberUpdate], max_size=3).map(tuple)
scalars[tuple[PinRecord, ...]] = st.lists(scalars[PinRecord], max_size=3).map(tuple)
any_message = st.one_of([records(cls) for cls in TYPE_IDS.values()])

loose_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | texts
    | st.binary(max_size=40),
    lambda inner: st.lists(inner, max_size=12) | st.dictionaries(texts, inner, max_size=1),
    max_leaves=20,
)  # fmt: skip

SECRET = Keyring((b"s" * 32,))
SHOP = cluster_label("shop")
NODE = Identity(NodeName("n"), BootId(1), Address("127.0.0.1", 1))


@given(st.lists(any_message, max_size=4).map(tuple))
def test_decode_undoes_encode(batch: tuple[Message, ...]) -> None:
    assert decode(encode(batch)) == batch


@given(st.binary(max_size=300))
def test_arbitrary_bytes_decode_or_raise_a_wire_error(noise: bytes) -> None:
    with contextlib.suppress(WireError):
        decode(noise)


@given(
    st.sampled_from(list(TYPE_IDS)),
    st.lists(loose_values, max_size=12),
)
def test_a_message_with_any_fields_is_refused_or_comes_back_the_same(
    type_id: int, fields: list[object]
) -> None:
    with contextlib.suppress(WireError):
        batch = decode(msgpack.packb([[type_id, *fields]]))
        assert decode(encode(batch)) == batch


@given(any_message, st.data())
def test_a_message_with_one_byte_changed_is_refused_or_means_something_valid(
    message: Message, data: st.DataObject
) -> None:
    encoded = bytearray(encode([message]))
    index = data.draw(st.integers(0, len(encoded) - 1))
    encoded[index] = data.draw(st.integers(0, 255))
    with contextlib.suppress(WireError):
        batch = decode(bytes(encoded))
        assert decode(encode(batch)) == batch


@given(st.binary(max_size=200), st.booleans())
def test_arbitrary_bytes_open_no_datagram(noise: bytes, plausible: bool) -> None:
    opener = DatagramOpener(SECRET, label=SHOP)
    opener.introduce(NodeName("n"), BootId(1))
    if plausible:  # as far as somebody gets who has watched the wire
        boot = (1).to_bytes(8, "big")
        noise = b"\x01" + SECRET.key_ids[0] + SHOP + boot + noise[:8].ljust(8) + b"\x01n" + noise
        assert len(SHOP) == CLUSTER_LABEL_BYTES
    with contextlib.suppress(DatagramError):
        opener.open(noise)
        raise AssertionError("opened")


@given(st.lists(st.binary(max_size=64), max_size=8))
def test_arbitrary_bytes_are_no_frame(chunks: list[bytes]) -> None:
    opener = FrameOpener(b"k" * 32)
    with contextlib.suppress(SealError):
        for chunk in chunks:
            assert list(opener.receive(chunk)) == []


@given(st.lists(st.binary(max_size=64), max_size=8), st.booleans())
@example(chunks=[b"\x16", b""], dials=False)
def test_arbitrary_bytes_prove_nothing_in_a_handshake(chunks: list[bytes], dials: bool) -> None:
    side_type = Initiator if dials else Responder
    side = side_type(NODE, keyring=SECRET, label=SHOP, ephemeral=b"e" * 32)
    if isinstance(side, Initiator):
        side.start()
    with contextlib.suppress(WireError):
        for chunk in chunks:
            if steps := side.receive(chunk):
                # Who begins with TLS is told that there is none here, and that is the end.
                (step,) = steps
                assert isinstance(step, RefusedPeer)
                assert step.reason is Refusal.NO_TLS
                break


@given(st.lists(st.integers(1, 5_000), max_size=60))
def test_the_replay_window_lets_each_counter_pass_at_most_once(counters: list[int]) -> None:
    window, passed = ReplayWindow(), []
    for counter in counters:
        if window.is_fresh(counter):
            window.mark(counter)
            passed.append(counter)
    assert len(passed) == len(set(passed))
    if max(counters, default=0) - min(counters, default=0) < 2_048:
        assert set(passed) == set(counters)
