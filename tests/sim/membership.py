"""Trials of membership in the simulator: how fast a crash is known, at what price.

    python -m tests.sim.membership --nodes 8 --trials 200
    python -m tests.sim.membership --nodes 32 --quiet-s 600 --loss 0.2

The first crashes one member after another and prints a table of detection times; the second
lets a healthy cluster run and counts members that were wrongly declared dead.
"""

import argparse
import sys
from dataclasses import dataclass, field

from meshlb.core.swim import PROFILES, Timings
from meshlb.model import MemberState
from tests.sim.cluster import Cluster, name_of
from tests.sim.network import Weather

GIVE_UP_S = 60.0


@dataclass
class Figures:
    """What a run measured; times in seconds."""

    nodes: int
    detected_s: list[float] = field(default_factory=list)
    joined_s: list[float] = field(default_factory=list)
    false_deaths: int = 0
    suspicions: int = 0
    quiet_s: float = 0.0
    sent_bytes_per_s: float = 0.0
    """Per node, while nothing happened."""


def crash_trials(
    *, nodes: int, trials: int, seed: int, weather: Weather, hang: bool, timings: Timings
) -> Figures:
    """Crash a random member, wait until all know, start it again, wait until all know; repeat."""
    cluster = Cluster(seed, weather, timings)
    sim = cluster.sim
    figures = Figures(nodes)
    cluster.start_all(nodes)
    for _ in range(trials):
        sim.run(sim.now + timings.suspicion_for(nodes) + 3 * sim.rng.random())
        index = sim.rng.randrange(nodes)
        crashed_at = sim.now
        cluster.crash(name_of(index), hang=hang)
        known = sim.run(sim.now + GIVE_UP_S, cluster.all_hold(name_of(index), MemberState.DEAD))
        assert known, f"a crash stayed unknown; seed {seed}, at {crashed_at:.3f}"
        figures.detected_s.append(sim.now - crashed_at)
        started_at = sim.now
        cluster.start(index)
        assert sim.run(sim.now + GIVE_UP_S, cluster.knows_all(nodes)), f"no rejoin; seed {seed}"
        figures.joined_s.append(sim.now - started_at)
    figures.false_deaths = len(cluster.record.false_deaths)
    return figures


def quiet_run(
    *, nodes: int, duration_s: float, seed: int, weather: Weather, timings: Timings
) -> Figures:
    """Let a healthy cluster be, and count what it costs and whom it wrongs."""
    cluster = Cluster(seed, weather, timings)
    cluster.start_all(nodes)
    cluster.sim.run(cluster.sim.now + 15.0)
    cluster.record.sent_bytes.clear()
    cluster.record.changes.clear()
    cluster.sim.run(cluster.sim.now + duration_s)
    return Figures(
        nodes,
        false_deaths=len(cluster.record.false_deaths),
        suspicions=sum(
            change.member.state is MemberState.SUSPECT and change.member.reporter == name
            for _, name, change in cluster.record.changes
        ),
        quiet_s=duration_s,
        sent_bytes_per_s=cluster.record.sent_bytes.total() / nodes / duration_s,
    )


def percentile(values: list[float], share: float) -> float:
    """The smallest value that at least that share of all are not above."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def main(arguments: list[str]) -> int:
    """Run what the command line asks for and print a table."""
    parser = argparse.ArgumentParser(prog="python -m tests.sim.membership")
    parser.add_argument("--nodes", type=int, nargs="+", default=[3, 5, 8])
    parser.add_argument("--trials", type=int, default=100, help="crashes per size")
    parser.add_argument("--quiet-s", type=float, default=0.0, help="run this long without crashes")
    parser.add_argument("--loss", type=float, default=0.0)
    parser.add_argument("--duplication", type=float, default=0.0)
    parser.add_argument("--delay-max-s", type=float, default=0.001)
    parser.add_argument("--kill", action="store_true", help="a process dies: its streams close")
    parser.add_argument("--profile", choices=list(PROFILES), default="lan")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    timings = PROFILES[options.profile]
    weather = Weather(
        loss=options.loss, duplication=options.duplication, delay_max_s=options.delay_max_s
    )
    false_deaths = 0
    print(f"seed {options.seed}, profile {options.profile}, loss {options.loss:.0%}")
    for nodes in options.nodes:
        if options.quiet_s:
            figures = quiet_run(
                nodes=nodes,
                duration_s=options.quiet_s,
                seed=options.seed,
                weather=weather,
                timings=timings,
            )
            print(
                f"{nodes:4} nodes  quiet {figures.quiet_s:.0f} s  "
                f"suspicions {figures.suspicions}  false deaths {figures.false_deaths}  "
                f"sent per node {figures.sent_bytes_per_s:.0f} B/s"
            )
        else:
            figures = crash_trials(
                nodes=nodes,
                trials=options.trials,
                seed=options.seed,
                weather=weather,
                hang=not options.kill,
                timings=timings,
            )
            print(
                f"{nodes:4} nodes  {options.trials} crashes  known to all after "
                f"p50 {percentile(figures.detected_s, 0.5):.2f}  "
                f"p99 {percentile(figures.detected_s, 0.99):.2f}  "
                f"max {max(figures.detected_s):.2f} s  "
                f"joined p99 {percentile(figures.joined_s, 0.99):.3f} s  "
                f"false deaths {figures.false_deaths}"
            )
        false_deaths += figures.false_deaths
    return 1 if false_deaths else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
