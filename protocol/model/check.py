"""Checks the models of the protocol with Spin: what must hold, and what must break without a rule.

    python protocol/model/check.py            every run, in the bounds of a few minutes
    python protocol/model/check.py --small    those that `make test` does too, in seconds
    python protocol/model/check.py --trace NAME   the events that lead to the fault of one run

Needs `spin` and a C compiler (`cc` or `gcc`); uses nothing but the standard library.
"""

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
DEPTH_MAX = 10_000
MEMORY_MB_MAX = 6_000
TIMEOUT_S = 900


@dataclass(frozen=True, slots=True)
class Run:
    """One model in one set of bounds."""

    model: str
    defines: str
    """Switches of the model, apart by spaces."""
    breaks: bool = False
    """A rule is left out, and Spin has to find what that leads to."""
    is_small: bool = False
    """Fast enough for `make test`."""

    @property
    def name(self) -> str:
        """What to call it by."""
        return f"{self.model}: {self.defines}" if self.defines else self.model


def _holds(model: str, *defines: str, is_small: bool = False) -> list[Run]:
    return [Run(model, each, is_small=is_small) for each in defines]


def _breaks(model: str, *defines: str, is_small: bool = False) -> list[Run]:
    return [Run(model, each, breaks=True, is_small=is_small) for each in defines]


RUNS: tuple[Run, ...] = (
    *_holds("refutation", "ACCUSATIONS=1", is_small=True),
    *_holds("refutation", "FAREWELL", "ACCUSATIONS=3", "OBSERVERS=3 ACCUSATIONS=1"),
    *_breaks(
        "refutation",
        "ALIVE_OVERRIDES",
        "ACCUSER_RAISES",
        "SUBJECT_KEEPS",
        "NO_ANSWER",
        "DEAF_TO_THE_PAST",
        is_small=True,
    ),
    *_holds("claims", "CRASHER=1", "JOINER=0", is_small=True),
    *_breaks(
        "claims",
        "CRASHER=0 NO_CHECK",
        "CRASHER=0 NO_ACK",
        "CRASHER=0 FORGET_HELD",
        "CRASHER=1 FORGET_PROPOSAL",
        is_small=True,
    ),
    *_holds(
        "claims",
        "CRASHER=0 TRIES=3",
        "CRASHER=1 TRIES=3",
        "PROVISIONAL CRASHER=0 TRIES=3",
        "PROVISIONAL CRASHER=1 TRIES=3",
        "PROVISIONAL JOINER=0 TRIES=1",
        "JOINER=0 CRASHER=1",
        "JOINER=0 CRASHER=2",
        "JOINER=0 LEAVER=1",
        "SUSPECT=0 TRIES=1 CAP=6",
        "SUSPECT=1 TRIES=1 CAP=6",
        "SUSPECT=2 TRIES=1 CAP=6",
        "N=4 CRASHER=0",
        "N=4 CRASHER=1 EVERYWHERE",
        "N=4 JOINER=0",
        "N=4 JOINER=3 TRIES=1",
        "N=4 LEAVER=0",
        "N=4 LEAVER=1",
        "N=4 CRASHER=0 LEAVER=1 TRIES=1 CAP=5",
        "N=4 CRASHER=1 LEAVER=0 TRIES=1 CAP=5",
        "N=4 JOINER=0 CRASHER=1 TRIES=1 CAP=5",
    ),
    *_breaks(
        "claims",
        "N=4 CRASHER=0 FORGET_RECENT",
        "N=4 CRASHER=1 EVERYWHERE LATE_WORDS_STAY",
        "PROVISIONAL CRASHER=1 TRIES=3 PROVISIONAL_OBJECTS",
        "N=4 JOINER=0 CRASHER=1 TRIES=1 CAP=5 NO_BARRIER",
        "N=4 CRASHER=0 LEAVER=1 TRIES=1 CAP=5 LEAVE_AT_ONCE",
    ),
)
"""All runs."""


class MissingToolError(Exception):
    """Spin or a C compiler is not installed."""


def compiler() -> str | None:
    """The C compiler, if there is one."""
    return shutil.which("cc") or shutil.which("gcc")


def missing_tool() -> str:
    """What is not installed; empty where nothing is missing."""
    if shutil.which("spin") is None:
        return "spin"
    return "" if compiler() else "cc"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a run."""

    is_broken: bool
    states: int
    seconds: float
    trace: str
    """The events that lead to the fault, one a line; empty where there is none."""

    def is_expected(self, run: Run) -> bool:
        """True where the model holds, or breaks, as it should."""
        return self.is_broken == run.breaks


def check(run: Run, directory: Path, *, shortest: bool = False) -> Outcome:
    """Checks `run` in the empty `directory`.

    Args:
        run: what to check.
        directory: where the generated program and the trail go.
        shortest: look for the shortest way to a fault, which takes longer.

    Raises:
        MissingToolError: where Spin or a C compiler is missing.
        RuntimeError: where the model could not be checked in full.
    """
    if tool := missing_tool():
        raise MissingToolError(f"{tool} is not installed")
    source = directory / f"{run.model}.pml"
    shutil.copy(HERE / source.name, source)
    defines = [f"-D{define}" for define in run.defines.split()]
    began = time.monotonic()
    _call(directory, "spin", "-a", *defines, source.name)
    # A small run takes longer to compile than to check; a large one tells states apart by a hash.
    options = ["-O0"] if run.is_small else ["-O2", "-DHC4"]
    if shortest:
        options.append("-DREACH")
    flags = ["-w", "-DSAFETY", f"-DMEMLIM={MEMORY_MB_MAX}", *options]
    _call(directory, str(compiler()), *flags, "-o", "pan", "pan.c")
    report = _call(directory, "./pan", f"-m{DEPTH_MAX}", *(["-i"] if shortest else []))
    faults = re.search(r"errors: (\d+)", report)
    states = re.search(r"(\d+) states, stored", report)
    if faults is None or states is None or ("Search not completed" in report and faults[1] == "0"):
        raise RuntimeError(f"{run.name}: not checked in full\n{report}")
    is_broken = faults[1] != "0"
    trace = ""
    if is_broken:
        trail = _call(directory, "spin", "-t", "-T", *defines, source.name, may_fail=True)
        trace = trail.partition("spin: ")[0]
    return Outcome(is_broken, int(states[1]), time.monotonic() - began, trace)


def _call(directory: Path, *command: str, may_fail: bool = False) -> str:
    done = subprocess.run(
        command, cwd=directory, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    if done.returncode and not may_fail:
        raise RuntimeError(f"{' '.join(command)}:\n{done.stdout}{done.stderr}")
    return done.stdout


def main() -> int:
    """Checks what the command line asks for; 0 where all is as it should be."""
    parser = argparse.ArgumentParser(description="Check the models of the protocol with Spin.")
    parser.add_argument("--small", action="store_true", help="only what `make test` checks")
    parser.add_argument("--trace", metavar="NAME", help="show how the run of that name breaks")
    arguments = parser.parse_args()
    if tool := missing_tool():
        print(f"{tool} is not installed (on Debian: apt-get install spin gcc)", file=sys.stderr)
        return 1
    runs = [run for run in RUNS if run.is_small or not arguments.small]
    if arguments.trace is not None:
        runs = [run for run in RUNS if run.name == arguments.trace]
    unexpected = 0
    for run in runs:
        with tempfile.TemporaryDirectory(prefix="meshlb-model-") as directory:
            outcome = check(run, Path(directory), shortest=arguments.trace is not None)
        unexpected += not outcome.is_expected(run)
        verdict = "breaks" if outcome.is_broken else "holds"
        note = "" if outcome.is_expected(run) else "  UNEXPECTED"
        print(
            f"{verdict:6} {outcome.states:>10,} states {outcome.seconds:6.1f} s  {run.name}{note}"
        )
        if arguments.trace is not None or (outcome.is_broken and note):
            print(outcome.trace)
        sys.stdout.flush()
    if not runs:
        print(f"no run is called {arguments.trace!r}", file=sys.stderr)
    return 1 if unexpected or not runs else 0


if __name__ == "__main__":
    sys.exit(main())
