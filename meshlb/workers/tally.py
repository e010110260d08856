"""What a worker has counted, as it tells the member; and the sum over all workers.

Owns the form and the sum. Numbers of connections end with their worker, the others stay in the
sum for ever. What `meshlb.proxy.counters` gets is told and summed without a change here, be it a
number, several, or numbers by name.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from operator import add
from typing import Any, Final

from meshlb.errors import WorkerError
from meshlb.proxy.counters import ListenerCounters, ProxyCounters

_LISTENERS: Final = "listeners"

Counters = ProxyCounters | ListenerCounters


@dataclass(slots=True)
class WorkerTally:
    """Of one worker, or of all that have ended."""

    proxy: ProxyCounters = field(default_factory=ProxyCounters)
    tunnels: int = 0
    idle_upstreams: int = 0
    """Connections to backends that wait for a request."""
    claims_refused: int = 0
    """Claims answered at once, because too many waited."""
    words_dropped: int = 0
    """Pins and uses of pins that the member was not told of, because too much waited."""

    def retire(self, ended: "WorkerTally") -> None:
        """A worker has ended: keep what it has counted, and none of its connections."""
        for tally in ended.proxy.listeners.values():
            tally.connections = 0
        _add(self.proxy, ended.proxy)
        self.claims_refused += ended.claims_refused
        self.words_dropped += ended.words_dropped


def total(tallies: Iterable[WorkerTally]) -> WorkerTally:
    """The sum."""
    sum_ = WorkerTally()
    for tally in tallies:
        _add(sum_.proxy, tally.proxy)
        sum_.tunnels += tally.tunnels
        sum_.idle_upstreams += tally.idle_upstreams
        sum_.claims_refused += tally.claims_refused
        sum_.words_dropped += tally.words_dropped
    return sum_


def _add(to: Counters, more: Counters) -> None:
    for each in fields(to):
        ours, theirs = getattr(to, each.name), getattr(more, each.name)
        match ours:
            case int():
                setattr(to, each.name, ours + theirs)
            case Counter():
                ours.update(theirs)
            case list():
                ours[:] = map(add, ours, theirs)
            case _:
                for listener, counters in theirs.items():
                    _add(ours.setdefault(listener, ListenerCounters()), counters)


def pack_tally(tally: WorkerTally) -> list[Any]:
    """For a message."""
    totals = [tally.tunnels, tally.idle_upstreams, tally.claims_refused, tally.words_dropped]
    return [_pack(tally.proxy), totals]


def _pack(counters: Counters) -> dict[str, Any]:
    packed: dict[str, Any] = {}
    for each in fields(counters):
        value = getattr(counters, each.name)
        if each.name == _LISTENERS:
            value = {name: _pack(listener) for name, listener in value.items()}
        elif not isinstance(value, int):
            value = type(value)(value)  # A copy: these go on counting.
        packed[each.name] = value
    return packed


def unpack_tally(packed: list[Any]) -> WorkerTally:
    """The inverse.

    Raises:
        WorkerError: it is none.
    """
    try:
        proxy, totals = packed
        tally = WorkerTally(ProxyCounters(), *map(_number, totals))
        _unpack(proxy, tally.proxy)
    except (ValueError, TypeError, AttributeError, LookupError) as error:
        raise WorkerError(f"a tally is not as it should be: {error}") from error
    return tally


def _unpack(packed: Mapping[str, Any], counters: Counters) -> None:
    for each in fields(counters):
        value, ours = packed[each.name], getattr(counters, each.name)
        match ours:
            case int():
                setattr(counters, each.name, _number(value))
            case Counter():
                ours.update({str(name): _number(count) for name, count in value.items()})
            case list():
                ours[:] = [_number(count) for _, count in zip(ours, value, strict=True)]
            case _:
                for name, listener in value.items():
                    _unpack(listener, ours.setdefault(str(name), ListenerCounters()))


def _number(value: object) -> int:
    if type(value) is not int:
        raise ValueError("a count is no number")
    return value
