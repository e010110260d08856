"""What a node does with words on secrets, and which orders it refuses."""

from pathlib import Path

import pytest
from structlog.testing import capture_logs

from meshlb.cluster.keys import PEERS_MAX, ClusterKeys
from meshlb.core.keyring import KeyBook
from meshlb.errors import KeyOrderError, StoreError
from meshlb.model import ClusterSecret, NodeName
from meshlb.store.keyring import NAME, KeyringFile
from meshlb.wire.limits import KEYRING_SECRETS_MAX
from meshlb.wire.seal import cluster_label, key_id_of

OLD, NEW = ClusterSecret(b"o" * 32), ClusterSecret(b"n" * 32)
OLD_ID, NEW_ID = key_id_of(OLD), key_id_of(NEW)
A, B, C = NodeName("a"), NodeName("b"), NodeName("c")


def keys_of(name: NodeName = A, *configured: bytes, data_dir: Path | None = None) -> ClusterKeys:
    return ClusterKeys(
        name,
        configured or (OLD,),
        file=KeyringFile(data_dir, cluster_label("shop")),
        wall_ms=lambda: 1_000,
    )


def talk(*everybody: ClusterKeys) -> None:
    """Each hears each, often enough."""
    for _ in everybody:
        for teller in everybody:
            for listener in everybody:
                if listener is not teller:
                    listener.hear(teller._me, teller.state())


def refused(order: object) -> str:
    with pytest.raises(KeyOrderError) as caught:
        order()  # type: ignore[operator]  # a lambda
    return caught.value.code


def test_a_rotation_step_by_step() -> None:
    a, b = keys_of(A), keys_of(B)
    talk(a, b)
    a.install(NEW)
    assert refused(lambda: a.use(NEW_ID, live=[A, B], force=False)) == "not_installed"
    talk(a, b)
    a.use(NEW_ID, live=[A, B], force=False)
    assert refused(lambda: a.remove(OLD_ID, members=[A, B], force=False)) == "in_use"
    talk(a, b)
    b.remove(OLD_ID, members=[A, B], force=False)
    talk(a, b)
    assert a.keyring.secrets == b.keyring.secrets == (NEW,)


def test_a_secret_is_not_removed_while_a_member_that_is_away_may_need_it() -> None:
    a, b = keys_of(A), keys_of(B)
    talk(a, b)
    a.install(NEW)
    talk(a, b)
    a.use(NEW_ID, live=[A, B], force=False)
    talk(a, b)
    assert refused(lambda: a.remove(OLD_ID, members=[A, B, C], force=False)) == "in_use"
    a.remove(OLD_ID, members=[A, B, C], force=True)
    assert a.keyring.secrets == (NEW,)


def test_the_secret_that_seals_is_not_removed_even_by_force() -> None:
    a = keys_of(A, OLD, NEW)
    assert refused(lambda: a.remove(OLD_ID, members=[A], force=True)) == "in_use"
    assert a.keyring.secrets == (OLD, NEW)


@pytest.mark.parametrize("force", [False, True])
def test_an_unknown_secret_is_neither_used_nor_removed(force: bool) -> None:
    a = keys_of()
    assert refused(lambda: a.use(NEW_ID, live=[A], force=force)) == "unknown_key"
    assert refused(lambda: a.remove(NEW_ID, members=[A], force=force)) == "unknown_key"


def test_no_more_secrets_are_installed_than_a_keyring_holds() -> None:
    a = keys_of()
    for number in range(1, KEYRING_SECRETS_MAX):
        a.install(ClusterSecret(bytes([number]) * 32))
    assert refused(lambda: a.install(NEW)) == "too_many"
    a.install(ClusterSecret(bytes([1]) * 32))  # known already: told again


def test_a_step_that_all_have_taken_is_told_on_and_the_talk_ends() -> None:
    a, b = keys_of(A), keys_of(B)
    told = []
    a.begin(lambda: told.append(a.state()))
    a.install(NEW)
    b.hear(A, a.state())
    a.hear(B, b.state())
    a.hear(B, b.state())
    assert len(told) == 1


def test_what_was_installed_outlasts_the_process(tmp_path: Path) -> None:
    a = keys_of(data_dir=tmp_path)
    a.serve()
    a.install(NEW)
    a.use(NEW_ID, live=[A], force=False)
    again = keys_of(A, b"x" * 32, data_dir=tmp_path)
    assert again.keyring.secrets == (NEW, b"x" * 32)
    assert again.hash_key == a.hash_key


def test_a_node_that_held_nothing_but_removed_secrets_does_not_start(tmp_path: Path) -> None:
    a = keys_of(A, OLD, NEW, data_dir=tmp_path)
    a.use(NEW_ID, live=[A], force=False)
    a.remove(OLD_ID, members=[A], force=False)
    with capture_logs() as lines, pytest.raises(StoreError, match="configure one"):
        keys_of(A, OLD, data_dir=tmp_path)
    assert lines[0]["key"] == OLD_ID.hex()


def test_a_word_that_would_leave_no_secret_is_ignored() -> None:
    a = keys_of()
    word = KeyBook.of((NEW,)).remove(OLD_ID, by=B, wall_ms=1).state()
    with capture_logs() as lines:
        a.hear(B, word)
    assert a.keyring.secrets == (OLD,)
    assert [line["log_level"] for line in lines] == ["error"]


def test_a_disk_that_fails_is_an_error_in_the_log_and_the_rotation_goes_on(tmp_path: Path) -> None:
    a = keys_of(data_dir=tmp_path)
    (tmp_path / NAME).mkdir()
    with capture_logs() as lines:
        a.install(NEW)
    assert a.keyring.secrets == (OLD, NEW)
    assert lines[0]["log_level"] == "error"


def test_two_clusters_that_become_one_say_whose_pins_are_lost() -> None:
    older, younger = keys_of(A, OLD), keys_of(B, NEW, OLD)
    older.serve()
    younger.serve()
    ordered = sorted((older, younger), key=lambda keys: keys.hash_key)
    with capture_logs() as lines:
        talk(*ordered)
    assert older.hash_key == younger.hash_key
    assert [line["log_level"] for line in lines] == ["warning"]


def test_no_log_line_tells_a_secret() -> None:
    a, b = keys_of(A), keys_of(B)
    with capture_logs() as lines:
        a.install(NEW)
        talk(a, b)
        a.use(NEW_ID, live=[A, B], force=False)
        a.remove(OLD_ID, members=[A], force=False)
    assert lines
    for secret in (OLD, NEW):
        assert secret.hex() not in str(lines)
        assert secret.decode() not in str(lines)


def test_peers_are_remembered_up_to_a_bound() -> None:
    a = keys_of()
    state = keys_of(B).state()
    for number in range(PEERS_MAX + 10):
        a.hear(NodeName(f"n{number}"), state)
    assert a.report(NodeName("n0")) is None
    assert a.report(NodeName(f"n{PEERS_MAX + 9}")) is not None
    assert len(a._reports) == PEERS_MAX


def test_a_rotation_by_the_file_alone_step_by_step() -> None:
    a, b = keys_of(A), keys_of(B)
    told: list[bytes] = []
    a.begin(lambda: told.append(a.keyring.key_ids[0]))
    for secrets in ((OLD, NEW), (NEW, OLD), (NEW,)):
        for keys in (a, b):
            assert keys.refusal_of(secrets) is None
            keys.configure(secrets)
        talk(a, b)
        assert a.keyring.secrets == b.keyring.secrets == secrets
    assert told[0] == OLD_ID
    assert told[-1] == NEW_ID
    assert a.hash_key == b.hash_key == keys_of(C).hash_key, "session keys are hashed as before"


def test_what_an_operator_has_said_outranks_the_file() -> None:
    keys = keys_of(A, OLD, NEW)
    keys.use(NEW_ID, live=[A], force=False)
    keys.remove(OLD_ID, members=[A], force=False)
    assert "removed from the cluster" in (keys.refusal_of((OLD,)) or "")
    keys.configure((OLD, NEW))
    assert keys.keyring.secrets == (NEW,)
