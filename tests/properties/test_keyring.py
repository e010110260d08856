"""Merging what is said of secrets is a join: order, repetition and detours do not matter."""

from functools import reduce

from hypothesis import given
from hypothesis import strategies as st

from meshlb.core.keyring import KeyBook
from meshlb.model import ClusterSecret, NodeName
from meshlb.wire.key_words import KeyringState
from meshlb.wire.seal import key_id_of

SECRETS = [ClusterSecret(bytes([number]) * 32) for number in range(4)]
FIRST = ClusterSecret(b"f" * 32)
names = st.sampled_from([NodeName("a"), NodeName("b")])
stamps = st.integers(1, 6)


@st.composite
def states(draw: st.DrawFn) -> KeyringState:
    """What somebody may have come to know through a few words."""
    book = KeyBook.of((FIRST, *draw(st.lists(st.sampled_from(SECRETS), max_size=2))))
    for _ in range(draw(st.integers(0, 4))):
        secret, by, wall_ms = draw(st.sampled_from(SECRETS)), draw(names), draw(stamps)
        match draw(st.sampled_from(["install", "use", "remove", "serve"])):
            case "install":
                book = book.install(secret, by=by, wall_ms=wall_ms)
            case "use":
                book = book.use_key(key_id_of(secret), by=by, wall_ms=wall_ms)
            case "remove":
                book = book.remove(key_id_of(secret), by=by, wall_ms=wall_ms)
            case _:
                book = book.serve(wall_ms=wall_ms)
    return book.state()


@given(st.lists(states(), max_size=5), st.randoms(use_true_random=False))
def test_any_order_and_any_repetition_of_what_is_heard_give_one_book(
    heard: list[KeyringState], rng: object
) -> None:
    start = KeyBook.of((FIRST,))
    shuffled = [*heard, *heard[:2]]
    rng.shuffle(shuffled)  # type: ignore[attr-defined]  # hypothesis gives a random.Random
    assert reduce(KeyBook.heard, heard, start) == reduce(KeyBook.heard, shuffled, start)


@given(st.lists(states(), max_size=4))
def test_what_is_passed_on_is_worth_what_was_heard(heard: list[KeyringState]) -> None:
    start = KeyBook.of((FIRST,))
    straight = reduce(KeyBook.heard, heard, start)
    assert start.heard(straight.state()) == straight
