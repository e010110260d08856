from structlog.testing import capture_logs

from meshlb.cluster.counters import MeshCounters
from meshlb.cluster.refusals import ADDRESSES_MAX, LOG_EVERY_S, RefusalLog
from meshlb.model import Address, NodeName
from meshlb.wire.refusal import Refusal

HERE, THERE = Address("10.0.0.1", 1), Address("10.0.0.2", 1)


def test_a_refused_node_says_so_once_and_again_when_something_changed() -> None:
    counters = MeshCounters()
    log = RefusalLog(counters)
    with capture_logs() as lines:
        for _ in range(3):
            log.refused_by(HERE, Refusal.OTHER_SECRET)
        log.refused_by(HERE, Refusal.OTHER_CLUSTER)
        log.admitted_by(HERE)
        log.refused_by(HERE, Refusal.OTHER_CLUSTER)
        log.refused_by(THERE, Refusal.OTHER_CLUSTER)
    assert [(line["log_level"], line["member"], line["reason"]) for line in lines] == [
        ("error", "10.0.0.1:1", "other-secret"),
        ("error", "10.0.0.1:1", "other-cluster"),
        ("error", "10.0.0.1:1", "other-cluster"),
        ("error", "10.0.0.2:1", "other-cluster"),
    ]
    assert counters.refused_by_peers == {"other-secret": 3, "other-cluster": 3}


def test_who_refuses_counts_each_time_and_logs_once_a_minute() -> None:
    counters = MeshCounters()
    log = RefusalLog(counters)
    with capture_logs() as lines:
        for now in (0.0, 1.0, LOG_EVERY_S - 0.1, LOG_EVERY_S, LOG_EVERY_S + 1):
            log.refused(HERE, Refusal.NAME_TAKEN, NodeName("b"), now=now)
    assert [line["times"] for line in lines] == [1, 4]
    assert counters.handshakes_refused == {"name-taken": 5}


def test_a_node_that_dials_itself_or_a_linked_member_is_no_news() -> None:
    log = RefusalLog(MeshCounters())
    with capture_logs() as lines:
        for reason in (Refusal.SELF, Refusal.LINKED, Refusal.SHUTTING_DOWN):
            log.refused_by(HERE, reason)
            log.refused(HERE, reason, None, now=0.0)
    assert lines == []


def test_addresses_are_bounded_and_the_oldest_makes_room() -> None:
    log = RefusalLog(MeshCounters())
    with capture_logs() as lines:
        for number in range(ADDRESSES_MAX + 1):
            log.refused_by(Address("10.0.0.1", number), Refusal.TOO_MANY)
        lines.clear()
        log.refused_by(Address("10.0.0.1", 5), Refusal.TOO_MANY)
        assert lines == []
        log.refused_by(Address("10.0.0.1", 0), Refusal.TOO_MANY)
    assert len(lines) == 1
