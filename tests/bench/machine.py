"""CPU time for work that the kernel does outside of the process that is measured.

What the kernel relay costs is charged to whoever sends, to the kernel's threads, and to whoever is
interrupted. So the CPU time of all that belongs to a bench is added up: its processes, with load
and backends, and the kernel's threads. What the same load takes without a proxy is taken off by
the bench. Other processes of the machine do not count, though they blur the figures.
"""

import os
from pathlib import Path

KERNEL_THREADS = 2
"""The parent of all of them."""


def used_cpu_s() -> float:
    """CPU seconds of this process, its descendants and the kernel's threads until now."""
    used_s: dict[int, float] = {}
    parents: dict[int, int] = {}
    for folder in Path("/proc").iterdir():
        if not folder.name.isdecimal():
            continue
        try:
            after_name = (folder / "stat").read_text().rpartition(")")[2].split()
            ran_ns = sum(_ran_ns(task) for task in (folder / "task").iterdir())
        except OSError:
            continue  # It has ended meanwhile.
        pid = int(folder.name)
        parents[pid] = int(after_name[1])
        used_s[pid] = ran_ns / 1e9
    return sum(used for pid, used in used_s.items() if _is_ours(pid, parents))


def _ran_ns(task: Path) -> int:
    """As the scheduler counts it: the clock of `stat` ticks every 10 ms."""
    return int((task / "schedstat").read_text().split()[0])


def _is_ours(pid: int, parents: dict[int, int]) -> bool:
    while pid > 1:
        if pid in (os.getpid(), KERNEL_THREADS):
            return True
        pid = parents.get(pid, 0)
    return False
