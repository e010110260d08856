"""The judge goes by what a process has read, word by word, and not by whole frames."""

from types import SimpleNamespace
from typing import cast

from meshlb.model import BootId, NodeName
from meshlb.wire.messages import ViewMark
from tests.sim.mesh.hearing import Hearing
from tests.sim.mesh.process import Process

PEER = NodeName("peer")


class Stage:
    """A process that hears one peer; `gaps` are those that it knows of."""

    def __init__(self) -> None:
        self.gaps: set[NodeName] = set()
        replication = SimpleNamespace(gaps=self.gaps, position=lambda peer: None)
        self.process = cast(
            "Process",
            SimpleNamespace(
                name="me",
                me=SimpleNamespace(boot_id=BootId(1)),
                turns=SimpleNamespace(replication=replication),
            ),
        )
        self.hearing = Hearing()
        self.hearing.linked(self.process, PEER)

    def hear(self, *marks: int) -> None:
        """A frame is about to be read."""
        self.hearing.heard(self.process, PEER, [ViewMark(mark) for mark in marks])

    def count(self, mark: int) -> str:
        return self.hearing.counted(self.process, PEER, mark)

    def read(self) -> None:
        """The frame has been read."""
        self.hearing.stepped(self.process)

    def goes_by(self, mark: int) -> bool:
        return self.hearing.has_marked(self.process, PEER, mark)


def test_words_ahead_of_a_mark_in_its_frame_are_read_by_the_mark_before() -> None:
    stage = Stage()
    stage.hear(1)
    assert not stage.count(1)
    stage.read()
    stage.hear(2)  # behind a claim, in one frame
    assert stage.goes_by(1)
    assert not stage.count(2)
    stage.read()
    assert stage.goes_by(2)


def test_a_mark_that_waits_for_a_gap_takes_back_the_one_before() -> None:
    stage = Stage()
    stage.hear(1)
    stage.count(1)
    stage.read()
    stage.gaps.add(PEER)
    stage.hear(1)
    stage.read()
    assert not stage.goes_by(1)
    assert "came ahead" in stage.count(1)
    stage.gaps.clear()
    assert not stage.count(1)
    assert stage.goes_by(1)


def test_a_gap_that_opens_behind_a_mark_leaves_it_as_it_is() -> None:
    stage = Stage()
    stage.hear(1)
    stage.count(1)
    stage.gaps.add(PEER)
    stage.read()
    assert stage.goes_by(1)


def test_a_mark_of_an_earlier_stream_must_not_be_counted() -> None:
    stage = Stage()
    stage.hear(1)
    stage.read()
    stage.hearing.linked(stage.process, PEER)
    assert "present stream" in stage.count(1)
