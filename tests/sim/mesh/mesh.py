"""A simulated mesh: hosts with disks, processes on them, the network, and what befalls them.

Owns: starting and ending processes, carrying datagrams, and doing the faults of a plan. Must not
know: clients, and what must hold.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from random import Random

from meshlb.core.swim.timings import PROFILES
from meshlb.model import Address, BackendName, NodeName
from meshlb.wire.messages import BackendOverride
from tests.sim.mesh.air import CALM, Air
from tests.sim.mesh.disk import Disk
from tests.sim.mesh.links import SimLinks
from tests.sim.mesh.pipes import Pipes
from tests.sim.mesh.plan import Fault, Plan
from tests.sim.mesh.ports import Datagram, Post
from tests.sim.mesh.process import Process, Watcher
from tests.sim.mesh.tongues import TODAY, Tongue
from tests.sim.mesh.world import World

START_SPREAD_S = 0.3


@dataclass
class Host:
    """A machine: its disk stays when its process goes."""

    name: NodeName
    address: Address
    disk: Disk = field(default_factory=Disk)
    process: Process | None = None
    has_left: bool = False
    down_since: float | None = None
    tongue: Tongue = TODAY
    """What its next process speaks."""
    ended_at: float = -math.inf
    """When the latest process that has ended here did so."""
    highest_incarnation: int = 0
    """That a process here has ever given itself."""

    @property
    def running(self) -> Process | None:
        """The process, if it runs (and perhaps stands still)."""
        return self.process if self.process is not None and self.process.is_running else None


class SimMesh:
    """All hosts of one run."""

    def __init__(self, plan: Plan, world: World, watcher: Watcher) -> None:
        self.plan = plan
        self.world = world
        self.rng = world.chance("mesh")
        self.air = Air(world.chance("air"))
        self.pipes = Pipes(world, self.air, self._is_mute)
        self.post = Post(self._carry)
        self.hosts: dict[NodeName, Host] = {}
        self.on_started: Callable[[Process], None] = lambda process: None
        self.log: list[Fault] = []
        """The faults that were done, as they were done."""
        self.words: dict[BackendName, BackendOverride] = {}
        """The greatest word that was spoken of each backend."""
        self._watcher = watcher
        self._by_address: dict[Address, Host] = {}
        self._is_healed = False

    def start_all(self) -> None:
        """Start the hosts of the plan, at about the same time."""
        for name in self.plan.hosts:
            self._host(name)
        for name in self.plan.hosts:
            at = self.rng.random() * START_SPREAD_S
            self.world.at(at, lambda name=name: self.start(name))  # type: ignore[misc]  # bound

    def processes(self) -> list[Process]:
        """All that run."""
        return [host.process for host in self.hosts.values() if host.running is not None]  # type: ignore[misc]  # running

    def _host(self, name: NodeName) -> Host:
        host = self.hosts.get(name)
        if host is None:
            address = Address(f"10.0.0.{len(self.hosts) + 1}", 7946)
            host = self.hosts[name] = self._by_address[address] = Host(name, address)
            host.tongue = self.plan.tongue
        return host

    # Processes ---------------------------------------------------------------------------

    def start(self, name: NodeName, *, skew_s: float = 0.0) -> None:
        """Start a process on a host, unless one runs there."""
        host = self._host(name)
        if host.running is not None:
            return
        self.world.note(name, "starts")
        self.pipes.host_is_back(name)
        seeds = tuple(self.hosts[seed].address for seed in self.plan.hosts)
        process = Process(
            self.world,
            name=name,
            address=host.address,
            seeds=seeds,
            disk=host.disk,
            timings=PROFILES[self.plan.profile],
            rng=Random(self.rng.getrandbits(64)),
            wall_skew_s=skew_s,
            watcher=self._watcher,
            post=self.post,
            is_coded=self.plan.is_coded,
            log_entries_max=self.plan.log_entries_max,
            tongue=host.tongue,
        )
        host.process, host.has_left, host.down_since = process, False, None
        process.on_killed = lambda: self._end(host, is_power_lost=False)
        self.on_started(process)
        process.begin(SimLinks(process, self.pipes, self._listening))

    def _end(self, host: Host, *, is_power_lost: bool) -> None:
        process = host.running
        if process is not None:
            self.world.note(host.name, "ends")
            host.down_since = host.ended_at = self.world.now
            process.die(is_power_lost=is_power_lost)

    def _listening(self, address: Address) -> SimLinks | bool:
        host = self._by_address.get(address)
        if host is None:
            return False
        return host.process.links if host.running is not None and host.process else True

    def _is_mute(self, name: NodeName) -> bool:
        process = self.hosts[name].process
        return process is not None and process.is_paused

    def _carry(self, datagram: Datagram, to: Address) -> None:
        host = self._by_address.get(to)
        if host is not None:
            for delay_s in self.air.datagram_delays(datagram.sender, host.name):
                self._deliver(host, datagram, delay_s)

    def _deliver(self, host: Host, datagram: Datagram, delay_s: float) -> None:
        def arrive() -> None:
            if (process := host.running) is not None:
                self.world.note(host.name, "datagram", datagram.sender, datagram.messages)
                process.act(lambda: process.port.arrive(datagram))

        self.world.at(self.world.now + delay_s, arrive)

    # Faults ------------------------------------------------------------------------------

    def do(self, fault: Fault) -> None:
        """Let `fault` happen now."""
        if self._is_healed:
            return
        self.world.note(fault.host or "-", fault.kind, fault)
        self.log.append(fault)
        later = self.world.now + fault.for_s
        if fault.tongue is not None:
            self._host(fault.host).tongue = fault.tongue
        match fault.kind:
            case "crash":
                self._crash(fault)
            case "blackout":
                for name in list(self.hosts):
                    self._crash(replace(fault, host=name, for_s=fault.for_s * self.rng.random()))
            case "pause":
                self._pause(fault.host, fault, later)
            case "leap":
                for name in list(self.hosts):
                    self._pause(name, fault, later)
            case "cut":
                self.air.cut(fault.ways)
                self.world.at(later, lambda: self._mend(fault))
            case "weather":
                assert fault.weather is not None
                self.air.weather = fault.weather
                self.world.at(later, lambda: setattr(self.air, "weather", CALM))
            case "slow":
                self.air.slow(fault.ways[0], fault.delay_s)
                self.world.at(later, lambda: self.air.slow(fault.ways[0], 0.0))
            case "reset":
                for stream in self.pipes.between(*fault.ways[0]):
                    self.pipes.break_(stream)
            case "leave":
                self._leave(fault, later)
            case "join":
                self.start(fault.host)
            case "replay":
                self._replay(fault)

    def _crash(self, fault: Fault) -> None:
        host = self.hosts[fault.host]
        process = host.running
        if process is None:
            return

        def end() -> None:
            self._end(host, is_power_lost=fault.is_power_lost)
            if fault.is_disk_lost:
                host.disk.lose()
            self.world.at(
                self.world.now + fault.for_s, lambda: self.start(host.name, skew_s=fault.skew_s)
            )

        if fault.points:
            process.on_killed = end
            process.kill_in(fault.points)
        else:
            end()

    def _pause(self, name: NodeName, fault: Fault, later: float) -> None:
        process = self.hosts[name].running
        if process is None or process.is_paused:
            return
        process.pause()
        since = self.world.now

        def resume() -> None:
            if process.is_paused:
                self.world.note(name, "resumes")
                process.resume(self.world.now - since, is_suspended=fault.is_suspended)

        process.on_resume = resume
        self.world.at(later, resume)

    def _mend(self, fault: Fault) -> None:
        self.air.mend(fault.ways)
        self.pipes.mended()

    def _leave(self, fault: Fault, later: float) -> None:
        host = self.hosts[fault.host]
        process = host.running
        if process is None:
            return

        def left() -> None:
            host.has_left = True
            self._end(host, is_power_lost=False)
            self.world.at(max(later, self.world.now + 1.0), lambda: self.start(host.name))

        process.leave(left)

    def _replay(self, fault: Fault) -> None:
        host = self.hosts[fault.host]
        recorded = list(self.post.recorded)
        for datagram in self.rng.sample(recorded, min(fault.count, len(recorded))):
            self._deliver(host, datagram, self.rng.random() * 0.5)

    def heal(self) -> None:
        """Undo every fault; from now on all is well."""
        self._is_healed = True
        self.world.note("-", "healed")
        self.air.clear_up()
        self.pipes.mended()
        for host in list(self.hosts.values()):
            process = host.running
            if process is None:
                self.start(host.name)
                continue
            process.spare()
            if process.is_paused:
                process.on_resume()
