from dataclasses import replace

from meshlb.cluster.history import KEYS_MAX, NOTES_PER_KEY_MAX, History
from meshlb.core.sticky.pin import Pin
from meshlb.model import BackendName, KeySource, NodeName, PoolName, SessionKey
from meshlb.wire.messages import Rank

A, B = NodeName("a"), NodeName("b")
PIN = Pin(PoolName("app"), BackendName("s1"), KeySource.HEADER, 0, Rank.QUORATE, 7, A, 100.0)


def key(number: int) -> SessionKey:
    return SessionKey(number.to_bytes(16, "big"))


def test_a_history_tells_who_did_what_and_who_told() -> None:
    history = History()
    history.note(key(1), replace(PIN, rank=Rank.PROVISIONAL), teller=A, now=1.0)
    history.note(key(1), replace(PIN, backend=BackendName("s2"), epoch=1), teller=B, now=2.0)
    history.note(key(1), replace(PIN, backend=BackendName(""), epoch=2, claimer=B), teller=B, now=3)
    assert [(note.at, note.what) for note in history.of(key(1))] == [
        (1.0, "pinned to s1 by a, epoch 0, provisional"),
        (2.0, "moved from s1 to s2 by a, epoch 1 (told by b)"),
        (3, "unpinned by b, epoch 2"),
    ]


def test_a_key_that_is_pinned_again_after_it_was_unpinned_has_not_moved() -> None:
    history = History()
    history.note(key(1), replace(PIN, backend=BackendName(""), epoch=1), teller=A, now=1.0)
    history.note(key(1), replace(PIN, epoch=2), teller=A, now=2.0)
    history.note(key(2), replace(PIN, epoch=2), teller=A, now=2.0)
    assert history.of(key(1))[1].what == "pinned to s1 by a, epoch 2"
    assert history.of(key(2))[0].what == "moved to s1 by a, epoch 2", "what it was is not known"


def test_the_node_that_had_a_key_moved_knows_why() -> None:
    history = History()
    history.note(key(1), PIN, teller=A, now=1.0)
    history.moving(key(1), 0, "s1 is in maintenance")
    history.note(key(1), replace(PIN, backend=BackendName("s2"), epoch=1), teller=A, now=2.0)
    history.note(key(1), replace(PIN, backend=BackendName("s1"), epoch=2), teller=A, now=3.0)
    assert [note.what for note in history.of(key(1))] == [
        "pinned to s1 by a, epoch 0",
        "moved from s1 to s2 by a, epoch 1: s1 is in maintenance",
        "moved from s2 to s1 by a, epoch 2",
    ]


def test_reasons_are_bounded() -> None:
    history = History()
    for number in range(KEYS_MAX + 1):
        history.moving(key(number), 0, "s1 is down")
    for number in (0, KEYS_MAX):
        history.note(key(number), replace(PIN, epoch=1), teller=A, now=1.0)
    assert ": " not in history.of(key(0))[0].what
    assert history.of(key(KEYS_MAX))[0].what.endswith(": s1 is down")


def test_a_touch_or_a_repetition_is_no_event() -> None:
    history = History()
    history.note(key(1), PIN, teller=A, now=1.0)
    history.note(key(1), replace(PIN, expires_at=200.0), teller=B, now=2.0)
    assert len(history.of(key(1))) == 1


def test_keys_are_bounded_and_the_latest_stay() -> None:
    history = History()
    for number in range(KEYS_MAX + 1):
        history.note(key(number), PIN, teller=A, now=0.0)
    assert history.of(key(0)) == ()
    assert history.of(key(KEYS_MAX)) != ()
    for epoch in range(NOTES_PER_KEY_MAX + 1):
        history.note(key(7), replace(PIN, epoch=epoch + 1), teller=A, now=0.0)
    for number in range(KEYS_MAX):
        history.note(key(KEYS_MAX + 1 + number), PIN, teller=A, now=0.0)
    history.note(key(7), PIN, teller=A, now=0.0)
    assert len(history.of(key(7))) == 1, "what was forgotten stays forgotten"


def test_of_the_notes_of_a_key_the_latest_stay() -> None:
    history = History()
    for epoch in range(NOTES_PER_KEY_MAX + 1):
        history.note(key(7), replace(PIN, epoch=epoch + 1), teller=A, now=0.0)
    notes = history.of(key(7))
    assert len(notes) == NOTES_PER_KEY_MAX
    assert f"epoch {NOTES_PER_KEY_MAX + 1}" in notes[-1].what
