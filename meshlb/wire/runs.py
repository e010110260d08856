"""The message that carries a table in bulk, and the sizes of what is packed in it.

Spec: protocol/spec/replication.md, "Copies"; protocol/messages.toml.
"""

from dataclasses import dataclass
from typing import NewType

Hash64 = NewType("Hash64", int)
"""Of one record, or the XOR of those of many; see protocol/spec/repair.md."""

RunName = NewType("RunName", str)
"""The name of a pool, a backend or a node, which packed records refer to by its number."""

PackedPins = NewType("PackedPins", bytes)
"""Records of 39 bytes in ascending order of their keys."""

PackedEnds = NewType("PackedEnds", bytes)
"""For each of these with an absolute end: its place in the run, and the end, in 8 bytes."""


@dataclass(frozen=True, slots=True)
class TableRun:
    """A part of the table, thousands of pins at once; the last one has `last` set."""

    request: int
    now_ms: int
    """What the sender's clock reads by which the lifetimes in this run are told."""
    stamp_ms: int
    """The last stamp that the sender knows of."""
    names: tuple[RunName, ...]
    """Those that were not told before, numbered on from those that were."""
    records: PackedPins
    ends: PackedEnds
    sums: tuple[Hash64, ...]
    """Of the buckets that end in this run, in order; those of all buckets, or none in a copy."""
    last: bool
