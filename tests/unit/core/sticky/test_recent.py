from meshlb.core.sticky.recent import RECENT_S, Recent
from meshlb.model import NodeName
from tests.fakes.pins import NOW, a_key

GONE, STAYS = NodeName("lb-1"), NodeName("lb-2")
OWNERS = frozenset({STAYS})


def test_what_a_peer_told_last_is_remembered_until_it_is_gone() -> None:
    recent = Recent()
    recent.hear(GONE, a_key(1), NOW)
    recent.hear(STAYS, a_key(2), NOW)
    assert recent.release(OWNERS) == [a_key(1)]
    assert recent.release(OWNERS) == []
    assert recent.release(frozenset()) == [a_key(2)]


def test_lately_is_measured_from_the_peers_last_word() -> None:
    recent = Recent()
    recent.hear(GONE, a_key(1), NOW)
    recent.hear(GONE, a_key(2), NOW + RECENT_S + 0.1)
    recent.hear(GONE, a_key(3), NOW + RECENT_S + 0.2)
    assert recent.release(OWNERS) == [a_key(2), a_key(3)]


def test_a_talkative_peer_is_remembered_in_part() -> None:
    recent = Recent(keys_max=2)
    for number in range(5):
        recent.hear(GONE, a_key(number), NOW)
    assert recent.release(OWNERS) == [a_key(3), a_key(4)]
