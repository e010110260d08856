from meshlb.core.sticky.intake import NOTHING_READ, PEERS_MAX, Intake
from meshlb.model import BootId, NodeName
from meshlb.wire.messages import Delta, DeltaAck

PEER = NodeName("lb-2")


def delta(after_seq: int, upto_seq: int, *, boot_id: int = 7) -> Delta:
    return Delta(BootId(boot_id), after_seq, upto_seq, ())


def test_of_an_unknown_peer_nothing_is_read() -> None:
    assert Intake().position(PEER) == NOTHING_READ


def test_a_log_is_read_from_its_beginning_without_a_gap() -> None:
    intake = Intake()
    assert intake.advance(PEER, delta(0, 3))
    assert intake.advance(PEER, delta(3, 9))
    assert intake.position(PEER) == DeltaAck(BootId(7), 9)


def test_entries_that_are_missing_are_a_gap_and_reading_goes_on_behind_it() -> None:
    intake = Intake()
    intake.advance(PEER, delta(0, 3))
    assert not intake.advance(PEER, delta(5, 9))
    assert intake.advance(PEER, delta(9, 10))


def test_a_delta_that_comes_twice_is_no_gap_and_does_not_lead_back() -> None:
    intake = Intake()
    intake.advance(PEER, delta(0, 9))
    assert intake.advance(PEER, delta(0, 3))
    assert intake.position(PEER).seq == 9


def test_a_peer_that_was_started_anew_is_read_from_its_beginning() -> None:
    intake = Intake()
    intake.advance(PEER, delta(0, 9))
    assert intake.advance(PEER, delta(0, 2, boot_id=8))
    assert intake.position(PEER) == DeltaAck(BootId(8), 2)


def test_a_new_log_that_is_already_trimmed_is_a_gap() -> None:
    assert not Intake().advance(PEER, delta(4, 9))


def test_positions_are_bounded() -> None:
    intake = Intake()
    for number in range(PEERS_MAX + 1):
        intake.advance(NodeName(f"lb-{number}"), delta(0, 1))
    assert intake.position(NodeName("lb-0")) == NOTHING_READ
    assert intake.position(NodeName("lb-1")).seq == 1
