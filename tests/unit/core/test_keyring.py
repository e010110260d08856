"""What members make of each other's words on secrets, whatever order they hear them in."""

import pytest

from meshlb.core.keyring import STAMP_MS_MAX, KeyBook, first_hash_key
from meshlb.model import ClusterSecret, HashKey, NodeName
from meshlb.wire.limits import KEY_WORDS_MAX, KEYRING_SECRETS_MAX
from meshlb.wire.seal import key_id_of

OLD, NEW, NEXT = (ClusterSecret(letter * 32) for letter in (b"o", b"n", b"x"))
A, B = NodeName("a"), NodeName("b")


def secrets(book: KeyBook) -> tuple[bytes, ...]:
    keyring = book.keyring()
    assert keyring is not None
    return keyring.secrets


def told(listener: KeyBook, *tellers: KeyBook) -> KeyBook:
    for teller in tellers:
        listener = listener.heard(teller.state())
    return listener


def test_the_first_configured_secret_seals_until_an_operator_speaks() -> None:
    assert secrets(KeyBook.of((OLD, NEW))) == (OLD, NEW)


def test_an_installed_secret_opens_and_does_not_seal() -> None:
    book = KeyBook.of((OLD,)).install(NEW, by=A, wall_ms=1)
    assert secrets(book) == (OLD, NEW)
    assert secrets(told(KeyBook.of((OLD,)), book)) == (OLD, NEW)


def test_the_secret_in_use_seals_wherever_it_is_held() -> None:
    book = KeyBook.of((OLD,)).install(NEW, by=A, wall_ms=1)
    book = book.use_key(key_id_of(NEW), by=A, wall_ms=2)
    assert secrets(book) == (NEW, OLD)
    assert secrets(told(KeyBook.of((OLD,)), book)) == (NEW, OLD)


def test_a_removed_secret_is_gone_though_the_configuration_still_has_it() -> None:
    book = KeyBook.of((OLD, NEW)).remove(key_id_of(OLD), by=A, wall_ms=1)
    assert secrets(book) == (NEW,)
    assert book.stale() == (key_id_of(OLD),)
    assert KeyBook.of((OLD,)).heard(book.state()).keyring() is None


def test_a_configured_secret_is_never_told() -> None:
    assert KeyBook.of((OLD, NEW)).state().installed == ()


def test_the_later_word_on_a_secret_counts_also_when_it_comes_first() -> None:
    installed = KeyBook.of((OLD,)).install(NEW, by=A, wall_ms=1)
    removed = installed.remove(key_id_of(NEW), by=A, wall_ms=2)
    again = removed.install(NEW, by=B, wall_ms=3)
    for order in ((installed, removed), (removed, installed), (removed, installed, removed)):
        assert secrets(told(KeyBook.of((OLD,)), *order)) == (OLD,)
    for order in ((again, removed), (removed, again), (again, installed, removed)):
        assert secrets(told(KeyBook.of((OLD,)), *order)) == (OLD, NEW)


def test_a_word_is_later_than_all_that_its_speaker_has_heard_whatever_the_clock_says() -> None:
    book = KeyBook.of((OLD,)).install(NEW, by=A, wall_ms=1_000)
    behind = told(KeyBook.of((OLD,)), book).remove(key_id_of(NEW), by=B, wall_ms=5)
    assert secrets(told(book, behind)) == (OLD,)


def test_a_stamp_at_the_end_of_time_does_not_grow_beyond_what_travels() -> None:
    book = KeyBook.of((OLD,)).install(NEW, by=A, wall_ms=STAMP_MS_MAX)
    assert book.use_key(key_id_of(NEW), by=A, wall_ms=0).use is not None
    assert book.use_key(key_id_of(NEW), by=A, wall_ms=0).state().use.stamp_ms == STAMP_MS_MAX  # type: ignore[union-attr]  # asserted above


def test_a_keyring_and_its_memory_of_removals_are_bounded() -> None:
    book = KeyBook.of((OLD,))
    for number in range(KEY_WORDS_MAX + 20):
        book = book.install(ClusterSecret(bytes([number]) * 32), by=A, wall_ms=number)
    assert len(secrets(book)) == KEYRING_SECRETS_MAX
    assert secrets(book)[0] == OLD
    for number in range(KEY_WORDS_MAX + 20):
        book = book.remove(key_id_of(bytes([number]) * 32), by=A, wall_ms=number)
    assert len(book.removed) == KEY_WORDS_MAX
    assert secrets(book) == (OLD,)


class TestTheHashKey:
    def test_is_the_same_on_all_nodes_of_one_configuration(self) -> None:
        assert KeyBook.of((OLD, NEW)).hash_key == KeyBook.of((OLD,)).hash_key
        assert KeyBook.of((OLD,)).hash_key != KeyBook.of((NEW,)).hash_key

    def test_of_a_cluster_that_has_served_outlives_that_of_a_newcomer(self) -> None:
        cluster = KeyBook.of((OLD, NEW)).serve(wall_ms=2_000)
        newcomer = KeyBook.of((NEW,))
        assert told(newcomer, cluster).hash_key == first_hash_key(OLD)
        assert told(cluster, newcomer).hash_key == first_hash_key(OLD)

    def test_of_a_newcomer_with_a_clock_far_behind_changes_nothing(self) -> None:
        cluster = KeyBook.of((OLD,)).serve(wall_ms=2_000)
        newcomer = told(KeyBook.of((NEW,)), cluster).serve(wall_ms=1)
        assert newcomer.hash_key == first_hash_key(OLD)
        assert told(cluster, newcomer).hash_key_born_ms == 2_000

    def test_of_the_older_of_two_clusters_stays_when_they_meet(self) -> None:
        older = KeyBook.of((OLD,)).serve(wall_ms=1_000)
        younger = KeyBook.of((NEW,)).serve(wall_ms=2_000)
        assert told(older, younger).hash_key == told(younger, older).hash_key == older.hash_key

    def test_is_agreed_on_where_nobody_has_served_yet(self) -> None:
        one, other = KeyBook.of((OLD,)), KeyBook.of((NEW,))
        assert told(one, other).hash_key == told(other, one).hash_key

    def test_survives_the_rotation_of_every_secret(self) -> None:
        book = KeyBook.of((OLD,)).serve(wall_ms=1)
        book = book.install(NEW, by=A, wall_ms=2).use_key(key_id_of(NEW), by=A, wall_ms=3)
        book = book.remove(key_id_of(OLD), by=A, wall_ms=4)
        restarted = KeyBook.of((NEXT,)).heard(book.state())
        assert restarted.hash_key == first_hash_key(OLD)
        assert secrets(restarted)[0] == NEW


@pytest.mark.parametrize("shown", [repr, str])
def test_no_secret_is_ever_shown(shown: type) -> None:
    book = KeyBook.of((OLD,)).install(NEW, by=A, wall_ms=1)
    for secret in (OLD, NEW, HashKey(book.hash_key)):
        text = repr(secret)[2:-1]
        assert text not in shown(book)
        assert text not in shown(book.state())
