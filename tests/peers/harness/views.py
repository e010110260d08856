"""What several nodes see of each other, and whether their tables are alike."""

import time
from collections.abc import Collection, Mapping, Sequence

from tests.peers.harness.child import PATIENCE_S, wait_until
from tests.peers.harness.mesh import Node


def wait_views(side: Sequence[Node], *, timeout_s: float = PATIENCE_S) -> None:
    """Wait until these nodes see each other alive, and everybody else dead."""
    names = {node.name for node in side}

    def is_seen(node: Node) -> bool:
        members = node.members()
        alive = {name for name, state in members.items() if state == "alive"}
        others = {members[name] for name in members.keys() - alive}
        return alive == names and others <= {"dead", "left"}

    for node in side:
        wait_until(
            lambda node=node: is_seen(node), f"{node.name} sees {names}", timeout_s=timeout_s
        )


def wait_equal(nodes: Sequence[Node], *, timeout_s: float = PATIENCE_S) -> None:
    """Wait until the tables of these nodes are equal, by what their admin APIs list."""

    def are_equal() -> bool:
        first, *others = (node.pins() for node in nodes)
        return all(pins == first for pins in others)

    wait_until(are_equal, "all tables are equal", timeout_s=timeout_s)


def wait_agreed(nodes: Sequence[Node], *, timeout_s: float = PATIENCE_S) -> None:
    """Wait until their tables are equal and every pin is agreed, or a minority's."""
    wait_until(
        lambda: not any(pin[2] == "provisional" for node in nodes for pin in node.pins().values()),
        "home and backup have agreed on every pin",
        timeout_s=timeout_s,
    )
    wait_equal(nodes, timeout_s=timeout_s)


def assert_one_answer_each(
    answered: Mapping[str, Collection[str]], nodes: Sequence[Node], *, excused: float = 0
) -> None:
    """No key was answered by two backends, but for claims that ended without agreement.

    Those are counted, and on a machine that is busy enough there are some. `excused` are those
    that nodes had counted which have started anew since.
    """
    split = {key: backends for key, backends in answered.items() if len(set(backends)) > 1}
    if split:
        assert len(split) <= excused + total(nodes, "provisional"), split


def total(nodes: Sequence[Node], outcome: str) -> float:
    """How many claims of these nodes have ended so; `conflict` must stay 0."""
    return sum(node.metric("meshlb_pins_total", outcome=outcome) for node in nodes)


def states_seen(nodes: Sequence[Node], seconds: float) -> set[str]:
    """Every state in which any of these sees any member in that time."""
    seen: set[str] = set()
    end_at = time.monotonic() + seconds
    while time.monotonic() < end_at:
        for node in nodes:
            seen |= set(node.members().values())
        time.sleep(0.05)
    return seen
