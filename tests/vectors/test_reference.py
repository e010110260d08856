"""The reference decoder reads every vector, and says the same as `meshlb.wire` on any bytes.

The reference imports nothing of meshlb and no MessagePack or cryptography library: two readers
of one specification that share no code.
"""

import ast
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from meshlb.errors import WireError
from meshlb.wire import codec
from protocol.reference import copies, handshake, repair, sealing
from protocol.reference.messages import SCHEMA, decode
from protocol.reference.primitives import BASE_POINT, x25519
from protocol.reference.unpack import Malformed
from tests.vectors.test_vectors import as_json

PROTOCOL = Path(__file__).parents[2] / "protocol"


def load(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(
        (PROTOCOL / "vectors" / f"{name}.json").read_text(encoding="utf-8")
    )
    return loaded


def named(vectors: list[dict[str, Any]]) -> list[Any]:
    return [pytest.param(vector, id=vector["name"]) for vector in vectors]


MESSAGES = load("messages")
DATAGRAMS = load("datagrams")
HANDSHAKE = load("handshake")


@pytest.mark.parametrize("module", sorted((PROTOCOL / "reference").glob("*.py")), ids=str)
def test_the_reference_imports_the_standard_library_and_itself(module: Path) -> None:
    roots: set[str] = set()
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            roots |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            roots.add((node.module or "").partition(".")[0])
    assert roots - {"protocol"} <= sys.stdlib_module_names


# Batches -----------------------------------------------------------------------------------


def read_by_reference(encoded: bytes) -> list[dict[str, Any]] | None:
    try:
        return decode(encoded)
    except Malformed:
        return None


def read_by_meshlb(encoded: bytes) -> list[dict[str, Any]] | None:
    try:
        batch = codec.decode(encoded)
    except WireError:
        return None
    return [{"message": type(message).__name__, **as_json(message)} for message in batch]


@pytest.mark.parametrize("vector", named(MESSAGES["valid"]))
def test_a_valid_batch_means_what_the_vector_says(vector: dict[str, Any]) -> None:
    assert decode(bytes.fromhex(vector["hex"])) == vector["batch"]


@pytest.mark.parametrize("vector", named(MESSAGES["malformed"]))
def test_a_malformed_batch_is_refused(vector: dict[str, Any]) -> None:
    assert read_by_reference(bytes.fromhex(vector["hex"])) is None


@pytest.mark.parametrize("vector", named(MESSAGES["valid"]))
def test_a_batch_is_refused_where_its_messages_may_not_travel(vector: dict[str, Any]) -> None:
    carriers = [SCHEMA["message"][each["message"]]["carrier"] for each in vector["batch"]]
    for carrier, other in (("datagram", "stream"), ("stream", "datagram")):
        encoded = bytes.fromhex(vector["hex"])
        if other in carriers:
            with pytest.raises(Malformed):
                decode(encoded, carrier=carrier)
        else:
            assert decode(encoded, carrier=carrier) == vector["batch"]


VALID = [bytes.fromhex(vector["hex"]) for vector in MESSAGES["valid"]]


@st.composite
def spoilt_batches(draw: st.DrawFn) -> bytes:
    """A valid batch with bytes changed, cut out or put in."""
    batch = bytearray(draw(st.sampled_from(VALID)))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, max(0, len(batch) - 1)))
        size = draw(st.integers(0, 2))
        batch[at : at + size] = draw(st.binary(max_size=3))
    return bytes(batch)


@given(encoded=st.one_of(spoilt_batches(), st.binary(max_size=64)))
@example(encoded=bytes.fromhex("9193010193cb3ff0000000000000"))
@settings(max_examples=500)
def test_both_readers_agree_on_any_bytes(encoded: bytes) -> None:
    assert read_by_reference(encoded) == read_by_meshlb(encoded)


# Datagrams and frames ----------------------------------------------------------------------


def open_datagram(datagram: bytes) -> sealing.Datagram:
    return sealing.open_datagram(
        datagram,
        secrets=[bytes.fromhex(secret) for secret in DATAGRAMS["secrets"]],
        cluster=DATAGRAMS["cluster"],
        introduced=[(name, boot_id) for name, boot_id in DATAGRAMS["introduced"]],
    )


def test_key_ids_and_label_are_those_of_the_vectors() -> None:
    secrets = [bytes.fromhex(secret) for secret in DATAGRAMS["secrets"]]
    assert [sealing.key_id(secret).hex() for secret in secrets] == DATAGRAMS["key_ids"]
    assert sealing.cluster_label(DATAGRAMS["cluster"]).hex() == DATAGRAMS["cluster_label"]


@pytest.mark.parametrize("vector", named(DATAGRAMS["valid"]))
def test_a_valid_datagram_opens(vector: dict[str, Any]) -> None:
    opened = open_datagram(bytes.fromhex(vector["hex"]))
    assert opened == sealing.Datagram(
        vector["sender"], vector["boot_id"], vector["counter"], bytes.fromhex(vector["plain"])
    )


@pytest.mark.parametrize("vector", named(DATAGRAMS["malformed"]))
def test_a_malformed_datagram_is_refused_for_the_reason_of_the_vector(
    vector: dict[str, Any],
) -> None:
    with pytest.raises(sealing.Refused) as caught:
        open_datagram(bytes.fromhex(vector["hex"]))
    assert caught.value.reason == vector["reason"]


# Handshake ---------------------------------------------------------------------------------


def keys_at(side: str) -> handshake.Keys:
    """The keys that one side derives from what the other one sent."""
    hello, welcome = bytes.fromhex(HANDSHAKE["hello"]), bytes.fromhex(HANDSHAKE["welcome"])
    ((_, hello_body),) = handshake.split(hello)
    ((_, welcome_body),) = handshake.split(welcome)
    answer = handshake.read_welcome(welcome_body)
    other = answer if side == "initiator" else handshake.read_hello(hello_body)
    secrets = [bytes.fromhex(secret) for secret in HANDSHAKE[side]["secrets"]]
    return handshake.derive_keys(
        secret=next(each for each in secrets if sealing.key_id(each) == answer["key_id"]),
        private=bytes.fromhex(HANDSHAKE[side]["ephemeral"]),
        public=other["public_key"],
        hello=hello,
        welcome=answer["encoded"],
    )


@pytest.mark.parametrize(("side", "message"), [("initiator", "hello"), ("responder", "welcome")])
def test_a_side_says_who_it_is_and_shows_its_public_key(side: str, message: str) -> None:
    ((kind, body),) = handshake.split(bytes.fromhex(HANDSHAKE[message]))
    read = handshake.read_hello if message == "hello" else handshake.read_welcome
    who = HANDSHAKE[side]
    assert kind == {"hello": handshake.HELLO, "welcome": handshake.WELCOME}[message]
    assert read(body)["identity"] == {name: who[name] for name in ("name", "boot_id", "address")}
    assert read(body)["label"] == sealing.cluster_label(HANDSHAKE["cluster"])
    assert read(body)["public_key"] == x25519(bytes.fromhex(who["ephemeral"]), BASE_POINT)


def test_both_sides_derive_the_same_keys_and_prove_it() -> None:
    keys = keys_at("initiator")
    assert keys == keys_at("responder")
    ((_, welcome),) = handshake.split(bytes.fromhex(HANDSHAKE["welcome"]))
    assert handshake.read_welcome(welcome)["proof"] == handshake.proof(keys.responder_proof)
    assert handshake.split(bytes.fromhex(HANDSHAKE["prove"])) == [
        (handshake.PROVE, handshake.proof(keys.initiator_proof))
    ]
    assert handshake.split(bytes.fromhex(HANDSHAKE["accept"])) == [(handshake.ACCEPT, b"")]


@pytest.mark.parametrize("way", ["to_responder", "to_initiator"])
def test_the_frames_of_both_ways_open(way: str) -> None:
    stream = bytes.fromhex("".join(HANDSHAKE["frames"][way]))
    key: bytes = getattr(keys_at("initiator"), way)
    plains = sealing.open_frames(key, stream)
    assert [plain.hex() for plain in plains] == HANDSHAKE["frame_plains"][way]
    with pytest.raises(Malformed):
        sealing.open_frames(key, stream[:-1] + bytes([stream[-1] ^ 1]))


@pytest.mark.parametrize("reason", HANDSHAKE["refuse"])
def test_a_refusal_names_its_reason(reason: str) -> None:
    ((kind, body),) = handshake.split(bytes.fromhex(HANDSHAKE["refuse"][reason]))
    assert (kind, handshake.read_refuse(body)) == (handshake.REFUSE, reason)


def test_a_refusal_of_a_later_version_has_a_reason() -> None:
    ((kind, body),) = handshake.split(bytes.fromhex(HANDSHAKE["refuse_of_a_later_version"]))
    assert kind == handshake.REFUSE
    assert handshake.read_refuse(body) not in HANDSHAKE["refuse"]


@pytest.mark.parametrize("vector", named(HANDSHAKE["hellos"]))
def test_the_answer_to_a_hello_names_version_and_features(vector: dict[str, Any]) -> None:
    ((_, hello),) = handshake.split(bytes.fromhex(vector["hello"]))
    ((kind, body),) = handshake.split(bytes.fromhex(vector["answer"]))
    offered = handshake.read_hello(hello)
    if kind == handshake.REFUSE:
        assert handshake.read_refuse(body) == vector["refused"]
        return
    welcome = handshake.read_welcome(body)
    assert (welcome["version"], welcome["features"]) == (vector["version"], vector["features"])
    assert offered["version_min"] <= welcome["version"] <= offered["version_max"]
    assert welcome["features"] & ~offered["features"] == 0


@pytest.mark.parametrize("vector", named(HANDSHAKE["malformed_for_responder"]))
def test_a_malformed_handshake_is_refused_without_an_answer(vector: dict[str, Any]) -> None:
    with pytest.raises(Malformed):
        handshake.respond(
            bytes.fromhex(vector["hex"]),
            private=bytes.fromhex(HANDSHAKE["responder"]["ephemeral"]),
        )


# Repair ------------------------------------------------------------------------------------


@pytest.mark.parametrize("record", load("repair")["records"])
def test_a_record_has_the_hash_and_the_bucket_of_the_vector(record: dict[str, Any]) -> None:
    assert repair.record_hash(record).hex() == record["hash"]
    assert repair.bucket(bytes.fromhex(record["key"])) == record["bucket"]


# Copies ------------------------------------------------------------------------------------

COPIES = load("copies")


@pytest.mark.parametrize("vector", named(COPIES["runs"]))
def test_the_records_of_a_run_are_those_of_the_vector(vector: dict[str, Any]) -> None:
    (run,) = decode(bytes.fromhex(vector["hex"]))
    assert copies.records(run, []) == vector["records"]


@pytest.mark.parametrize("vector", named(COPIES["malformed"]))
def test_a_malformed_run_is_refused(vector: dict[str, Any]) -> None:
    (run,) = decode(bytes.fromhex(vector["hex"]))
    with pytest.raises(Malformed):
        copies.records(run, [])
