"""The scenarios of operators' words: on backends, and on secrets."""

import itertools

import pytest

from meshlb.cluster.overrides import Overrides
from meshlb.core.keyring import KeyBook
from meshlb.model import (
    BackendName,
    BackendState,
    ClusterSecret,
    HashKey,
    NodeName,
    PoolName,
)
from meshlb.wire.key_words import InstalledKey, KeyringState, KeyWord
from meshlb.wire.messages import BackendOverride
from meshlb.wire.seal import key_id_of
from tests.fakes.overrides import NoKeeper
from tests.scenarios.forms import Fields, load, named

FILE = load("words")


def secret(digit: int) -> ClusterSecret:
    return ClusterSecret(bytes([digit]) * 32)


def state(
    *,
    installed: tuple[InstalledKey, ...] = (),
    removed: tuple[KeyWord, ...] = (),
    use: KeyWord | None = None,
    hash_key: HashKey = HashKey(b"h" * 32),  # noqa: B008 - a value, and never changed
    born_ms: int = 0,
) -> KeyringState:
    """What a peer knows; the rest of it is about itself."""
    own = key_id_of(secret(0))
    return KeyringState(installed, removed, use, (own,), own, hash_key, born_ms)


def word(fields: Fields) -> KeyringState:
    stamp_ms, by = fields["stamp_ms"], NodeName(fields["by"])
    if "install" in fields:
        return state(installed=(InstalledKey(secret(fields["install"]), stamp_ms, by),))
    named_key = KeyWord(key_id_of(secret(fields.get("use", fields.get("remove")))), stamp_ms, by)
    return state(use=named_key) if "use" in fields else state(removed=(named_key,))


@pytest.mark.parametrize("scenario", named(FILE["backend"]))
def test_the_latest_word_on_a_backend_stays(scenario: Fields) -> None:
    words = [
        BackendOverride(
            PoolName("app"),
            BackendName("s1"),
            BackendState(fields["state"]),
            fields["stamp_ms"],
            NodeName(fields["by"]),
        )
        for fields in scenario["told"]
    ]
    for order in itertools.permutations(words):
        overrides = Overrides(NodeName("a"), NoKeeper())
        for said in (*order, order[0]):
            overrides.hear(said)
        assert [said.state.value for said in overrides.all()] == [scenario["expect"]]


@pytest.mark.parametrize("scenario", named(FILE["keyring"]))
def test_a_member_holds_the_secrets_of_the_scenario(scenario: Fields) -> None:
    configured = tuple(secret(digit) for digit in scenario["configured"])
    for order in itertools.permutations([word(fields) for fields in scenario["told"]]):
        book = KeyBook.of(configured)
        for said in (*order, order[0]):
            book = book.heard(said)
        keyring = book.keyring()
        assert keyring is not None
        assert keyring.secrets == tuple(secret(digit) for digit in scenario["held"])


@pytest.mark.parametrize("scenario", named(FILE["hash_key"]))
def test_one_hash_key_stays(scenario: Fields) -> None:
    heard = [
        state(hash_key=HashKey(secret(fields["key"])), born_ms=fields["born_ms"])
        for fields in scenario["told"]
    ]
    for order in itertools.permutations(heard):
        book = KeyBook.of((secret(0),))
        for said in order:
            book = book.heard(said)
        assert book.hash_key == secret(scenario["expect"])
