"""What must hold once all faults are over: the mesh becomes one again, and nothing was lost.

Owns: the state in which a mesh is at rest, and the checks at its end. Must not know: how it got
there.
"""

from dataclasses import dataclass

from meshlb.core.sticky.pin import Pin
from meshlb.model import KeySource, MemberState, NodeName, SessionKey
from meshlb.wire.messages import Rank
from tests.sim.mesh.judge import Judge
from tests.sim.mesh.ledger import Confirmed, identity
from tests.sim.mesh.mesh import SimMesh
from tests.sim.mesh.process import Process

LIFE_TOLERANCE = 0.3
"""Replicas may differ in a pin's expiry by this part of its ttl, touches being told rarely."""


@dataclass(frozen=True)
class Unrest:
    """What keeps a mesh from being at rest."""

    why: str


def unrest(mesh: SimMesh, judge: Judge) -> str:
    """What keeps `mesh` from being at rest; empty where nothing does (invariant 10)."""
    if away := [host.name for host in mesh.hosts.values() if host.running is None]:
        return f"{away} have left, and are not back yet"
    processes = mesh.processes()
    for process in processes:
        if why := _membership_unrest(process, processes) or _queue_unrest(process, processes):
            return f"{process.name} {why}"
    words = {frozenset(process.overrides.all()) for process in processes}
    if len(words) > 1:
        return f"operators' words differ: {words}"
    for process in processes[1:]:
        if why := _difference(processes[0], process, mesh.plan.ttl_s):
            return f"{processes[0].name} and {process.name} differ: {why}"
    return "a claim is under way" if judge.is_waiting else ""


def _membership_unrest(process: Process, processes: list[Process]) -> str:
    names = {other.name for other in processes}
    alive = {m.name for m in process.membership.members() if m.state is MemberState.ALIVE}
    if alive != names:
        return f"holds {sorted(alive)} for alive"
    own, first = process.membership.ownership, processes[0].membership.ownership
    if own != first:
        return f"has the view {own}, not {first}"
    if set(own.owners) != names:
        return f"has the owners {own.owners}: {process.agent.reason or 'it is in sync itself'}"
    if process.agent.reason:
        return f"is not in sync: {process.agent.reason}"
    return ""


def _queue_unrest(process: Process, processes: list[Process]) -> str:
    turns = process.turns
    if turns.claims.claims_waiting:
        return f"has {turns.claims.claims_waiting} claims waiting"
    if turns.claims.barrier_missing:
        return f"waits for the marks of {sorted(turns.claims.barrier_missing)}"
    if turns.replication.gaps:
        return f"has gaps from {sorted(turns.replication.gaps)}"
    if turns.replication.pulling_from:
        return f"pulls from {turns.replication.pulling_from}"
    if turns.replication.has_unread(other.name for other in processes if other is not process):
        return "has told what is not read"
    now = process.table_now()
    for key, pin in process.store.records().items():
        if pin.is_live(now) and pin.rank is Rank.PROVISIONAL:
            return f"holds {key[:3].hex()} at rank {pin.rank.name.lower()}: {pin}"
    return ""


def _difference(one: Process, other: Process, ttl_s: float) -> str:
    """Where the tables of two processes differ; records at the end of their life aside."""
    mine, theirs = _living(one, ttl_s), _living(other, ttl_s)
    for key in sorted(mine.keys() | theirs.keys()):
        here, there = mine.get(key), theirs.get(key)
        if here is not None and there is not None:
            if identity(here) != identity(there):
                return f"{key[:3].hex()}: {here} and {there}"
            continue
        (known, where) = (here, other) if here is not None else (there, one)
        missing = where.store.records().get(key)
        assert known is not None
        if missing is None or identity(missing) != identity(known):
            return f"{key[:3].hex()}: {known} is not at {where.name}, but {missing}"
    return ""


def _living(process: Process, ttl_s: float) -> dict[SessionKey, Pin]:
    soon = process.table_now() + LIFE_TOLERANCE * ttl_s
    return {k: pin for k, pin in process.store.records().items() if pin.expires_at > soon}


# The end -----------------------------------------------------------------------------------


def check_end(mesh: SimMesh, judge: Judge) -> None:
    """Invariants 5, 8 and 13, when the mesh is at rest."""
    process = mesh.processes()[0]
    for key, pins in judge.books.confirmed.items():
        for confirmed in pins.values():
            _check_kept(mesh, judge, process, key, confirmed)
    if not any(fault.is_disk_lost for fault in mesh.log):
        for key in judge.books.burials:
            _check_unpinned(judge, process, key)
        _check_words(mesh, judge, process)
    for process in mesh.processes():
        counted = process.turns.claims.counters.moved
        moved = judge.moved.get(process.me.boot_id, 0)
        if counted != moved:
            judge.fail(8, f"{process.name} has counted {counted} moved pins of {moved}")


def _check_kept(
    mesh: SimMesh, judge: Judge, process: Process, key: SessionKey, confirmed: Confirmed
) -> None:
    """A confirmed pin is there, or a later one, or it has expired, or two crashes explain it."""
    if confirmed.until < mesh.world.now + LIFE_TOLERANCE * mesh.plan.ttl_s:
        return
    kept = process.store.get(key)
    pin = confirmed.pin
    if kept is not None and (kept.epoch > pin.epoch or identity(kept) == identity(pin)):
        return
    if kept is not None and (kept.epoch, kept.backend) == (pin.epoch, pin.backend):
        return
    if kept is not None and kept.epoch == pin.epoch and _is_explained(judge, key, kept, pin):
        return
    held = judge.books.held.get((key, identity(pin)), {})
    keepers = sorted(
        name
        for (name, generation), expires_at in held.items()
        if mesh.hosts[name].disk.generation == generation and _lives(mesh, name, expires_at)
    )
    told = f"{pin} of {key[:3].hex()}, confirmed at {confirmed.at:.3f}, became {kept}"
    if keepers and not judge.books.wrong_clock():
        judge.fail(5, f"{told}, though {keepers} have it on disk")
    home, backup = judge.books.pairs.get((key, identity(pin)), (confirmed.by, None))
    if pin.by is KeySource.COOKIE and confirmed.at <= mesh.hosts[confirmed.by].ended_at:
        return  # the client has it: it is planted anew with the next request (`Trial._use_again`)
    losses = judge.books.losses_since(confirmed.at, home, backup) or judge.books.wrong_clock()
    if not losses:
        judge.fail(5, f"{told}; it was agreed by {home} and {backup}")
    judge.books.explained.append(f"key {key[:3].hex()}: {told}; fault: {losses}")


def _lives(mesh: SimMesh, name: NodeName, expires_at: float) -> bool:
    """Whether a record lives by the clock of its host, which a start may have set wrong."""
    process = mesh.hosts[name].running
    return process is not None and expires_at > process.table_now()


def _check_unpinned(judge: Judge, process: Process, key: SessionKey) -> None:
    """Invariant 9: what was unpinned stays unpinned, or was pinned anew."""
    kept = process.store.get(key)
    if kept is not None and kept.is_live(process.table_now()) and judge.books.is_raised(key, kept):
        epoch = judge.books.burials[key].epoch
        judge.fail(9, f"{key[:3].hex()} was unpinned in epoch {epoch}, and became {kept}")


def _check_words(mesh: SimMesh, judge: Judge, process: Process) -> None:
    """What an operator was the last to say of a backend holds, whoever restarted since."""
    for word in mesh.words.values():
        known = process.overrides.on(word.pool, word.backend)
        if known is None or (known.stamp_ms, known.by) < (word.stamp_ms, word.by):
            judge.fail(9, f"the operator's {word} became {known}")


def _is_explained(judge: Judge, key: SessionKey, kept: Pin, lost: Pin) -> bool:
    """Whether a double fault explains that two pins of one epoch were agreed."""
    both = [judge.books.agreed.get((key, identity(pin))) for pin in (kept, lost)]
    if None in both:
        return False
    earlier, later = sorted(both, key=lambda agreed: agreed.at)  # type: ignore[union-attr]  # no None
    assert earlier is not None
    assert later is not None
    fault = judge.books.double_fault(key, earlier, later)
    if fault:
        judge.books.explained.append(f"key {key[:3].hex()}: {lost} lost to {kept}; {fault}")
    return bool(fault)
