"""The command: one seed in full, or a sweep over many.

    python -m tests.sim --seed 7 [--nodes 5] [--steps 200]     one run; a failure is shrunk
    python -m tests.sim --seeds 20000 [--first 0]              a sweep, with progress and a summary
    python -m tests.sim --roll up|down [...]                   hosts go over to the other version
    python -m tests.sim --mutation NAME [--seeds 100]          the same with a broken core

Owns: arguments, progress, the report of a failure. Exit code 1 says that something was found.
"""

import argparse
import sys
import time
from collections import Counter
from contextlib import nullcontext

from tests.sim.mesh.mutations import MUTATIONS
from tests.sim.mesh.plan import Plan, draw_plan
from tests.sim.mesh.quiet import quiet
from tests.sim.mesh.rolling import rolling_plan
from tests.sim.mesh.shrink import kind_of, shrink
from tests.sim.mesh.trial import Result, run_plan

PROGRESS_EVERY_S = 10.0
LINES_SHOWN = 40
FAILURES_SHOWN = 10


def main() -> None:
    """Run what the command line says."""
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__)
    parser.add_argument("--seed", type=int, help="run this one")
    parser.add_argument("--seeds", type=int, default=200, help="how many to sweep")
    parser.add_argument("--first", type=int, default=0, help="the first of a sweep")
    parser.add_argument("--nodes", type=int, help="instead of what the seed says")
    parser.add_argument("--steps", type=int, help="requests, instead of what the seed says")
    parser.add_argument(
        "--roll", choices=("up", "down"), help="restart all hosts into the other version"
    )
    parser.add_argument("--mutation", choices=sorted(MUTATIONS), help="break the core like this")
    args = parser.parse_args()
    mutated = MUTATIONS[args.mutation].applied() if args.mutation else nullcontext()
    with quiet(), mutated:
        found = one(args) if args.seed is not None else sweep(args)
    sys.exit(1 if found else 0)


def plan_of(seed: int, args: argparse.Namespace) -> Plan:
    """What the arguments make of a seed."""
    plan = draw_plan(seed, nodes=args.nodes, steps=args.steps)
    return rolling_plan(plan, args.roll) if args.roll else plan


def one(args: argparse.Namespace) -> bool:
    """Run one seed, and shrink what fails."""
    result = run_plan(plan_of(args.seed, args))
    print(told(result))
    if result.violation:
        print(report(result))
    return bool(result.violation)


def sweep(args: argparse.Namespace) -> bool:
    """Run many seeds."""
    began = said_at = time.monotonic()
    kinds: Counter[str] = Counter()
    failures: list[Result] = []
    explained = answers = 0
    slowest_s = 0.0
    for place in range(args.seeds):
        seed = args.first + place
        result = run_plan(plan_of(seed, args))
        answers += result.answers
        explained += len(result.explained)
        slowest_s = max(slowest_s, result.rest_s)
        if result.violation:
            kinds[kind_of(result.violation)] += 1
            failures.append(result)
            print(f"seed {seed}: {result.violation}", flush=True)
        if time.monotonic() > said_at + PROGRESS_EVERY_S:
            said_at = time.monotonic()
            pace = (place + 1) / (said_at - began)
            print(f"{place + 1} seeds, {pace:.1f} a second, {len(failures)} failed", flush=True)
    took_s = time.monotonic() - began
    print(
        f"{args.seeds} seeds in {took_s:.0f} s ({args.seeds / took_s:.1f} a second), {answers}"
        f" answers, {explained} contradictions explained by double faults, at rest after at most"
        f" {slowest_s:.1f} s, {len(failures)} failed: {dict(kinds)}"
    )
    if failures:
        print(report(failures[0]))
        rest = [failure.plan.replay for failure in failures[1:FAILURES_SHOWN]]
        print("\n".join(rest))
    return bool(failures)


def told(result: Result) -> str:
    """A run in a few lines."""
    plan = result.plan
    lines = [
        f"seed {plan.seed}: {len(plan.hosts)} hosts, {plan.lasts_s:.0f} s,"
        f" timings {plan.profile}, ttl {plan.ttl_s:.0f} s, {len(plan.steps)} requests,"
        f" {len(plan.faults)} faults{', one at a time' if plan.is_single else ''}",
        f"{result.steps} events, {result.answers} answers, at rest after {result.rest_s:.1f} s,"
        f" trace {result.digest}",
    ]
    lines += [f"explained: {text}" for text in result.explained]
    return "\n".join(lines)


def report(result: Result) -> str:
    """A failure: how to replay it, and the least that it takes."""
    least = shrink(result)
    trace = run_plan(least.plan, is_detailed=True).lines
    faults = "\n".join(f"  {fault}" for fault in least.plan.faults) or "  none"
    steps = "\n".join(
        f"  at {step.at:6.3f} s {step.kind} key {step.key} at {step.host}"
        for step in least.plan.steps
    )
    return "\n".join(
        [
            f"FAILED: {result.violation}",
            f"replay: {result.plan.replay}",
            f"it takes no more than these faults:\n{faults}",
            f"and these requests:\n{steps or '  none'}",
            f"to fail with: {least.violation}",
            "the end of that trace:",
            *(line[:200] for line in trace[-LINES_SHOWN:]),
        ]
    )
