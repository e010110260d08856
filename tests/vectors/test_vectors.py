"""The golden vectors of `protocol/vectors`, read by this implementation."""

import dataclasses
import enum
import json
from pathlib import Path
from typing import Any, TypeVar

import pytest

from meshlb.core.sticky.digest import bucket_of, record_hash
from meshlb.core.sticky.pin import NEVER, Pin
from meshlb.errors import WireError
from meshlb.model import (
    Address,
    BackendName,
    BootId,
    KeySource,
    NodeName,
    PoolName,
    SessionKey,
)
from meshlb.store import LmdbPins
from meshlb.wire import handshake
from meshlb.wire.codec import decode, encode
from meshlb.wire.handshake import (
    Established,
    Identity,
    Initiator,
    Proven,
    RefusedByPeer,
    RefusedPeer,
    Responder,
    Send,
)
from meshlb.wire.messages import TYPE_IDS, Rank
from meshlb.wire.refusal import Refusal
from meshlb.wire.runs import TableRun
from meshlb.wire.seal import (
    DatagramError,
    DatagramOpener,
    DatagramSealer,
    Keyring,
    cluster_label,
)
from meshlb.wire.versions import Dialect, Feature, Versions

VECTORS = Path(__file__).parents[2] / "protocol" / "vectors"
LATER = {
    "fields of a later version are ignored",
    "integers need not be minimal",
    "member-update of version 1 does not say what its subject speaks",
    "unknown type id 0 is ignored",
    "unknown type id 255 is ignored",
    "unknown type id of 64 bits is ignored",
    "a message of a later version is ignored between others",
    "pull-request of a version without packed records",
}
"""Valid, but not what this version writes."""


def load(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((VECTORS / f"{name}.json").read_text(encoding="utf-8"))
    return loaded


def named(vectors: list[dict[str, Any]]) -> list[Any]:
    return [pytest.param(vector, id=vector["name"]) for vector in vectors]


def as_json(value: Any) -> Any:
    if isinstance(value, Address):
        return [value.host, value.port]
    if dataclasses.is_dataclass(value):
        names = [field.name for field in dataclasses.fields(value)]
        return {name: as_json(getattr(value, name)) for name in names}
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, tuple):
        return [as_json(item) for item in value]
    return value


MESSAGES = load("messages")
DATAGRAMS = load("datagrams")
HANDSHAKE = load("handshake")


@pytest.mark.parametrize("vector", named(MESSAGES["valid"]))
def test_a_valid_batch_means_what_the_vector_says(vector: dict[str, Any]) -> None:
    batch = decode(bytes.fromhex(vector["hex"]))
    read = [{"message": type(message).__name__, **as_json(message)} for message in batch]
    assert read == vector["batch"]
    if vector["name"] not in LATER:
        assert encode(batch).hex() == vector["hex"]


@pytest.mark.parametrize("vector", named(MESSAGES["malformed"]))
def test_a_malformed_batch_is_refused(vector: dict[str, Any]) -> None:
    with pytest.raises(WireError):
        decode(bytes.fromhex(vector["hex"]))


def test_every_message_has_a_vector_and_malformed_ones_are_no_fewer() -> None:
    covered = {message["message"] for vector in MESSAGES["valid"] for message in vector["batch"]}
    assert covered == {cls.__name__ for cls in TYPE_IDS.values()}
    assert len(MESSAGES["malformed"]) >= len(MESSAGES["valid"])


@pytest.mark.parametrize("vector", load("repair")["records"])
def test_a_record_hashes_to_what_the_vector_says(vector: dict[str, Any]) -> None:
    key = SessionKey(bytes.fromhex(vector["key"]))
    pin = Pin(
        PoolName(vector["pool"]),
        BackendName(vector["backend"]),
        KeySource(vector["by"]),
        vector["epoch"],
        Rank(vector["rank"]),
        vector["stamp_ms"],
        NodeName(vector["claimer"]),
        expires_at=0.0,
    )
    assert record_hash(key, pin).to_bytes(8, "big").hex() == vector["hash"]
    assert bucket_of(key) == vector["bucket"]


def keyring() -> Keyring:
    return Keyring(tuple(bytes.fromhex(secret) for secret in DATAGRAMS["secrets"]))


def datagram_opener() -> DatagramOpener:
    opener = DatagramOpener(keyring(), label=cluster_label(DATAGRAMS["cluster"]))
    for name, boot_id in DATAGRAMS["introduced"]:
        opener.introduce(NodeName(name), BootId(boot_id))
    return opener


def test_key_ids_and_label_are_those_of_the_vectors() -> None:
    assert [key_id.hex() for key_id in keyring().key_ids] == DATAGRAMS["key_ids"]
    assert cluster_label(DATAGRAMS["cluster"]).hex() == DATAGRAMS["cluster_label"]


@pytest.mark.parametrize("vector", named(DATAGRAMS["valid"]))
def test_a_valid_datagram_opens(vector: dict[str, Any]) -> None:
    opened = datagram_opener().open(bytes.fromhex(vector["hex"]))
    assert (opened.sender, opened.boot_id) == (vector["sender"], vector["boot_id"])
    assert opened.plain.hex() == vector["plain"]


def test_sealing_the_same_words_gives_the_bytes_of_the_vectors() -> None:
    sealer = DatagramSealer(
        keyring(), label=cluster_label("shop"), sender=NodeName("lb-1"), boot_id=BootId(7)
    )
    for vector in DATAGRAMS["valid"][:2]:
        assert sealer.seal(bytes.fromhex(vector["plain"])).hex() == vector["hex"]


@pytest.mark.parametrize("vector", named(DATAGRAMS["malformed"]))
def test_a_malformed_datagram_is_refused_for_the_reason_of_the_vector(
    vector: dict[str, Any],
) -> None:
    with pytest.raises(DatagramError) as caught:
        datagram_opener().open(bytes.fromhex(vector["hex"]))
    assert caught.value.reason == vector["reason"]


Side = TypeVar("Side", Initiator, Responder)


def side(cls: type[Side], role: str) -> Side:
    who = HANDSHAKE[role]
    return cls(
        Identity(NodeName(who["name"]), BootId(who["boot_id"]), Address(*who["address"])),
        keyring=Keyring(tuple(bytes.fromhex(secret) for secret in who["secrets"])),
        label=cluster_label(HANDSHAKE["cluster"]),
        ephemeral=bytes.fromhex(who["ephemeral"]),
        versions=Versions(1, 2, Feature(HANDSHAKE["features"])),
    )


def test_the_handshake_writes_the_bytes_of_the_vectors() -> None:
    dialler, dialled = side(Initiator, "initiator"), side(Responder, "responder")
    hello = dialler.start()
    assert hello.payload.hex() == HANDSHAKE["hello"]
    assert dialled.receive(hello.payload) == [Send(bytes.fromhex(HANDSHAKE["welcome"]))]
    assert dialler.receive(bytes.fromhex(HANDSHAKE["welcome"])) == [Proven(dialled.me)]
    assert dialler.confirm() == Send(bytes.fromhex(HANDSHAKE["prove"]))
    (proven,) = dialled.receive(bytes.fromhex(HANDSHAKE["prove"]))
    assert isinstance(proven, Proven)
    accept, at_dialled = dialled.accept()
    assert accept.payload.hex() == HANDSHAKE["accept"]
    (at_dialler,) = dialler.receive(accept.payload)
    assert isinstance(at_dialler, Established)
    agreed = Dialect(HANDSHAKE["version"], Feature(HANDSHAKE["features"]))
    assert at_dialler.dialect == at_dialled.dialect == agreed
    for way, sealer in (("to_responder", at_dialler.sealer), ("to_initiator", at_dialled.sealer)):
        plains = [bytes.fromhex(plain) for plain in HANDSHAKE["frame_plains"][way]]
        assert [sealer.seal(plain).hex() for plain in plains] == HANDSHAKE["frames"][way]


def test_each_refusal_has_the_bytes_of_the_vectors() -> None:
    assert {reason.value: handshake.refuse_frame(reason).hex() for reason in Refusal} == HANDSHAKE[
        "refuse"
    ]


def test_a_refusal_of_a_later_version_is_a_refusal() -> None:
    refusal = bytes.fromhex(HANDSHAKE["refuse_of_a_later_version"])
    assert side(Responder, "responder").receive(refusal) == [RefusedByPeer(Refusal.UNKNOWN)]


@pytest.mark.parametrize("vector", named(HANDSHAKE["hellos"]))
def test_a_hello_is_answered_by_the_highest_common_version(vector: dict[str, Any]) -> None:
    dialled = side(Responder, "responder")
    (step,) = dialled.receive(bytes.fromhex(vector["hello"]))
    assert isinstance(step, Send | RefusedPeer)
    assert step.payload.hex() == vector["answer"]
    if "refused" in vector:
        assert isinstance(step, RefusedPeer)
        assert step.reason.value == vector["refused"]


def test_who_begins_with_tls_is_told_that_there_is_none() -> None:
    vector = HANDSHAKE["tls_to_a_responder_without"]
    (step,) = side(Responder, "responder").receive(bytes.fromhex(vector["hex"]))
    assert isinstance(step, RefusedPeer)
    assert step.payload.hex() == HANDSHAKE["refuse"][vector["refused"]]


@pytest.mark.parametrize("vector", named(HANDSHAKE["malformed_for_responder"]))
def test_a_malformed_handshake_is_refused_without_an_answer(vector: dict[str, Any]) -> None:
    dialled = side(Responder, "responder")
    with pytest.raises(WireError):
        dialled.receive(bytes.fromhex(vector["hex"]))


# Copies ------------------------------------------------------------------------------------

COPIES = load("copies")


def run_of(vector: dict[str, Any]) -> TableRun:
    (run,) = decode(bytes.fromhex(vector["hex"]))
    assert isinstance(run, TableRun)
    return run


@pytest.mark.parametrize("vector", named(COPIES["runs"]))
def test_the_records_of_a_run_are_those_of_the_vector(
    vector: dict[str, Any], tmp_path: Path
) -> None:
    run, store = run_of(vector), LmdbPins(tmp_path)
    copy = store.incoming()
    copy.add(run, run.now_ms / 1_000)
    copy.use(None)
    read = []
    for key, pin in store.scan(None, 100):
        expires_in_ms = round(pin.expires_at * 1_000) - run.now_ms
        ends_in_ms = 0 if pin.ends_at == NEVER else round(pin.ends_at * 1_000) - run.now_ms
        record = as_json(pin) | {"expires_in_ms": expires_in_ms, "ends_in_ms": ends_in_ms}
        del record["expires_at"], record["ends_at"]
        read.append({"key": key.hex(), **record})
    assert read == vector["records"]
    again = store.cut_run(None)
    assert again is not None
    assert (again.records, again.ends) == (run.records, run.ends)
    store.close()


@pytest.mark.parametrize("vector", named(COPIES["malformed"]))
def test_a_malformed_run_is_refused(vector: dict[str, Any], tmp_path: Path) -> None:
    run, store = run_of(vector), LmdbPins(tmp_path)
    with pytest.raises(WireError):
        store.incoming().add(run, run.now_ms / 1_000)
    store.close()
