"""What a node keeps in memory for its pins, without leaving anything out.

Two parts, of all processes of the node together:

* `heap`: anonymous memory, by the kernel's share for each process (`Pss_Anon`), so that what
  processes have in common counts once;
* `table`: the store's file, all of it. The kernel keeps its pages in memory as long as there is
  room, whether or not a process has mapped them just now; a process's resident size shows only
  those that it has touched of late.
"""

from dataclasses import dataclass
from pathlib import Path

from tests.peers.harness.mesh import Node

BLOCK_BYTES = 512
"""The unit of `st_blocks`, whatever the file system's."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes."""

    heap: int
    table: int

    @classmethod
    def of(cls, node: Node) -> "Memory":
        """What a running node takes now."""
        file = (node.folder / "state" / "data.mdb").stat()
        return cls(sum(map(_anonymous, family(node.pid))), file.st_blocks * BLOCK_BYTES)

    def over(self, empty: "Memory", pins: int) -> list[float]:
        """Bytes a pin more than a node without pins: heap, table, both."""
        heap, table = (self.heap - empty.heap) / pins, (self.table - empty.table) / pins
        return [heap, table, heap + table]


def family(pid: int) -> list[int]:
    """A process and all that it has started."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    children = [int(child) for task in tasks for child in (task / "children").read_text().split()]
    return [pid, *(member for child in children for member in family(child))]


def _anonymous(pid: int) -> int:
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    (line,) = (line for line in rollup.splitlines() if line.startswith("Pss_Anon:"))
    return int(line.split()[1]) * 1024
