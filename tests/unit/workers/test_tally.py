from collections import Counter

import pytest

from meshlb.errors import WorkerError
from meshlb.proxy.counters import ListenerCounters, ProxyCounters
from meshlb.workers.messages import Tally, decode, encode
from meshlb.workers.tally import WorkerTally, pack_tally, total, unpack_tally


def a_tally(factor: int = 1) -> WorkerTally:
    listener = ListenerCounters(accepted=5 * factor, connections=2 * factor)
    listener.answered[2] = 7 * factor
    listener.handshakes_failed["protocol"] = factor
    dropped = Counter({"waiting": factor})
    proxy = ProxyCounters(
        pins_hit=3 * factor, connects=factor, datagrams_dropped=dropped, listeners={"web": listener}
    )
    return WorkerTally(proxy, tunnels=4 * factor, idle_upstreams=factor, claims_refused=factor)


def test_a_tally_survives_the_way() -> None:
    (message,) = decode(encode(Tally(pack_tally(a_tally()))))
    assert isinstance(message, Tally)
    assert unpack_tally(message.counts) == a_tally()


def test_the_sum_counts_every_worker_and_changes_none() -> None:
    one, two = a_tally(), a_tally(10)
    two.proxy.listeners["more"] = ListenerCounters(malformed=1)
    sum_ = total([one, two])
    assert sum_.proxy.pins_hit == 33
    assert sum_.proxy.listeners["web"].answered[2] == 77
    assert sum_.proxy.listeners["web"].connections == 22
    assert sum_.proxy.listeners["web"].handshakes_failed["protocol"] == 11
    assert sum_.proxy.listeners["more"].malformed == 1
    assert sum_.proxy.datagrams_dropped == {"waiting": 11}
    assert (sum_.tunnels, sum_.idle_upstreams, sum_.claims_refused) == (44, 11, 11)
    assert one == a_tally()


def test_who_has_ended_keeps_its_counts_and_none_of_its_connections() -> None:
    ended = WorkerTally()
    ended.retire(a_tally())
    ended.retire(a_tally())
    sum_ = total([ended])
    assert sum_.proxy.listeners["web"].accepted == 10
    assert sum_.proxy.listeners["web"].connections == 0
    assert (sum_.tunnels, sum_.idle_upstreams, sum_.claims_refused) == (0, 0, 2)


@pytest.mark.parametrize("packed", [[], [{}, [0, 0, 0, 0]], [[], []], [None, None], None])
def test_what_is_no_tally_is_refused(packed) -> None:
    with pytest.raises(WorkerError):
        unpack_tally(packed)


def test_what_is_told_does_not_change_afterwards() -> None:
    tally = a_tally()
    told = pack_tally(tally)
    tally.proxy.listeners["web"].answered[2] += 1
    tally.proxy.listeners["web"].handshakes_failed["protocol"] += 1
    assert pack_tally(tally) != told
    assert unpack_tally(told) == a_tally()
