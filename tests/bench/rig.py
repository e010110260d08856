"""What all benches share: pinned processes, their CPU time, medians and a table.

The proxy has core 0 for itself; load and backends share core 1. So a proxy's CPU time is its own,
and figures of several proxies are comparable within one run (never between machines).
"""

import os
import resource
import statistics
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.peers.harness.backends import accepts
from tests.peers.harness.child import Child, wait_until

PROXY_CORE = 0
LOAD_CORE = 1
OPEN_FILES = 20_000
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class CpuTime:
    """CPU seconds of a process, all threads together, in user space and in the kernel."""

    user_s: float
    system_s: float

    @classmethod
    def of(cls, pid: int) -> "CpuTime":
        after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return cls(int(after_name[11]) / TICKS_PER_S, int(after_name[12]) / TICKS_PER_S)

    @classmethod
    def of_tree(cls, pid: int) -> "CpuTime":
        """Of a process and its children; those that have ended do not count."""
        pids = [pid]
        for task in Path(f"/proc/{pid}/task").iterdir():
            pids += map(int, (task / "children").read_text().split())
        times = [cls.of(pid) for pid in pids]
        return cls(sum(time.user_s for time in times), sum(time.system_s for time in times))

    def __sub__(self, earlier: "CpuTime") -> "CpuTime":
        return CpuTime(self.user_s - earlier.user_s, self.system_s - earlier.system_s)

    @property
    def total_s(self) -> float:
        return self.user_s + self.system_s

    def per(self, count: int) -> tuple[float, float, float]:
        """Microseconds of user, system and total time per one of `count`."""
        scale = 1e6 / count
        return self.user_s * scale, self.system_s * scale, self.total_s * scale


def pinned(core: int, argv: Sequence[str]) -> list[str]:
    """The command line, kept to one core; taskset executes it in its own place."""
    return ["taskset", "--cpu-list", str(core), *argv]


@contextmanager
def running(*children: tuple[Child, int]) -> Iterator[None]:
    """Run children, each until its port accepts, and kill them by pid at the end."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(max(soft, OPEN_FILES), hard), hard))
    try:
        for child, port in children:
            child.start()
            wait_until(
                lambda child=child, port=port: not child.is_running or accepts(port),
                f"{child.name} accepts",
            )
            if not child.is_running:
                raise SystemExit(f"{child.name} ended at once:\n{child.output()[-2000:]}")
        yield
    finally:
        for child, _ in children:
            child.kill()


def median_columns(rows: Sequence[Sequence[float]]) -> list[float]:
    """The median of each column."""
    return [statistics.median(column) for column in zip(*rows, strict=True)]


@dataclass(frozen=True, slots=True)
class Column:
    """A measured column: where `less_is_better`, ratios to the better rival are shown."""

    title: str
    digits: int = 1
    less_is_better: bool = True


def print_table(
    title: str, columns: Sequence[Column], results: dict[str, list[float]], *, ours: str = "meshlb"
) -> None:
    """Print medians, and for each of ours the ratio to the better rival, column by column."""
    table = Table(title=title, title_justify="left")
    table.add_column("proxy")
    for column in columns:
        table.add_column(column.title, justify="right")
    for name, figures in results.items():
        table.add_row(name, *(f"{f:,.{c.digits}f}" for f, c in zip(figures, columns, strict=True)))
    rivals = [figures for name, figures in results.items() if not name.startswith(ours)]
    for name, figures in results.items():
        if not name.startswith(ours) or not rivals:
            continue
        ratios = []
        for index, column in enumerate(columns):
            best = (min if column.less_is_better else max)(rival[index] for rival in rivals)
            ratios.append(f"{figures[index] / best:.2f} ×" if best else "–")
        table.add_row(f"{name}, to better", *ratios)
    Console(width=110).print(table)
