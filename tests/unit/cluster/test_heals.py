from collections.abc import Mapping

from structlog.testing import capture_logs

from meshlb.cluster.heals import HEAL_S, HEALS_MAX, MOVES_LISTED_MAX, Heals
from meshlb.core.sticky.pin import Pin, record_from_pin
from meshlb.model import NodeName, SessionKey
from tests.fakes.pins import NOW, a_key, a_pin

B, C = NodeName("b"), NodeName("c")


def merge(heals: Heals, table: dict[SessionKey, Pin], told: Mapping[SessionKey, Pin]) -> None:
    """Others' records take the place of what is in the table."""
    records = [record_from_pin(key, pin, now=NOW) for key, pin in told.items()]
    known = heals.before(records, table.get, NOW)
    table.update(told)
    heals.after(known, table.get)


def test_a_heal_counts_what_moves_while_it_lasts_and_nothing_else() -> None:
    heals, table = Heals(), {a_key(1): a_pin("s1"), a_key(2): a_pin("s1")}
    merge(heals, table, {a_key(1): a_pin("s2")})
    heals.returned(B, NOW)
    merge(heals, table, {a_key(1): a_pin("s2"), a_key(2): a_pin(""), a_key(3): a_pin("s3")})
    with capture_logs():
        heals.handle_timer(NOW + HEAL_S)
    merge(heals, table, {a_key(3): a_pin("s1")})
    (heal,) = heals.all()
    assert [(move.key, move.moved_from, move.moved_to) for move in heal.moves] == [
        (a_key(2), "s1", "")
    ]
    assert (heal.moved, heals.moved, heal.is_over) == (1, 1, True)


def test_a_member_that_comes_back_meanwhile_belongs_to_the_same_heal_and_prolongs_it() -> None:
    heals = Heals()
    heals.returned(B, NOW)
    heals.returned(C, NOW + 1.0)
    heals.handle_timer(NOW + HEAL_S)
    (heal,) = heals.all()
    assert heal.members == {B, C}
    assert heals.next_deadline() == NOW + 1.0 + HEAL_S


def test_heals_and_the_moves_listed_of_each_are_bounded_and_all_are_counted() -> None:
    heals, moves = Heals(), MOVES_LISTED_MAX + 5
    table = {a_key(number): a_pin("s1") for number in range(moves)}
    for number in range(HEALS_MAX + 1):
        heals.returned(B, NOW + number * HEAL_S)
        if number == HEALS_MAX:
            merge(heals, table, {key: a_pin("s2") for key in table})
        with capture_logs():
            heals.handle_timer(NOW + (number + 1) * HEAL_S)
    kept = heals.all()
    assert (len(kept), heals.count) == (HEALS_MAX, HEALS_MAX + 1)
    assert (len(kept[-1].moves), kept[-1].moved) == (MOVES_LISTED_MAX, moves)
