from meshlb.core.sticky import vector
from meshlb.core.sticky.vector import LAG_S, ORIGINS_MAX, Vector
from meshlb.model import BootId, NodeName
from meshlb.wire.messages import DeltaAck, Position

ME, PEER, GONE = NodeName("me"), NodeName("peer"), NodeName("gone")
BOOT = BootId(5)


def ahead(
    vector: Vector, now: float, *, read: int = 0, linked: tuple[NodeName, ...] = (PEER,)
) -> NodeName | None:
    mine = {GONE: DeltaAck(BOOT, read)} if read else {}
    return vector.ahead(mine, linked=linked, me=ME, now=now)


def told(seq: int = 9, origin: NodeName = GONE) -> Vector:
    made = Vector()
    made.told(PEER, [Position(origin, BOOT, seq)])
    return made


def test_a_peer_that_stays_ahead_on_the_log_of_an_origin_that_is_gone_is_found() -> None:
    vector = told()
    assert ahead(vector, 0.0, read=8) is None
    assert ahead(vector, LAG_S / 2, read=8) is None
    assert ahead(vector, LAG_S, read=8) == PEER


def test_what_was_only_under_way_is_no_lag() -> None:
    vector = told()
    assert ahead(vector, 0.0, read=8) is None
    assert ahead(vector, LAG_S, read=9) is None
    vector.told(PEER, [Position(GONE, BOOT, 12)])
    assert ahead(vector, 2 * LAG_S, read=9) is None
    assert ahead(vector, 3 * LAG_S, read=9) == PEER


def test_a_linked_origin_speaks_for_itself() -> None:
    vector = told()
    ahead(vector, 0.0, linked=(PEER, GONE))
    assert ahead(vector, LAG_S, linked=(PEER, GONE)) is None
    mine = told(origin=ME)
    ahead(mine, 0.0)
    assert ahead(mine, LAG_S) is None


def test_what_a_comparison_has_brought_is_covered_until_there_is_more() -> None:
    vector = told()
    ahead(vector, 0.0)
    vector.cover(vector.of(PEER))
    assert ahead(vector, LAG_S) is None
    vector.told(PEER, [Position(GONE, BOOT, 10)])
    ahead(vector, LAG_S)
    assert ahead(vector, 2 * LAG_S) == PEER


def test_another_boot_of_an_origin_has_another_log() -> None:
    vector = told()
    vector.cover({GONE: (BootId(BOOT + 1), 100)})
    ahead(vector, 0.0)
    assert ahead(vector, LAG_S) == PEER


def test_a_peer_whose_stream_ends_is_forgotten() -> None:
    vector = told()
    ahead(vector, 0.0)
    vector.forget(PEER)
    assert ahead(vector, LAG_S) is None
    assert vector.of(PEER) == {}


def test_only_so_many_origins_are_remembered() -> None:
    crowd = Vector()
    crowd.told(PEER, [Position(NodeName(f"n{i}"), BOOT, 1) for i in range(ORIGINS_MAX + 9)])
    assert len(crowd.of(PEER)) == vector.ORIGINS_MAX
