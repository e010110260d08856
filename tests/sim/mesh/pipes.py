"""Streams as TCP gives them: in order, whole or broken off, and silent while a way is cut.

Owns: connections between two hosts, what is under way on them, and how the end of one end reaches
the other. Must not know: handshakes, links, messages.

What is sent into a cut waits with the sender's kernel and goes on when the cut is mended, as TCP
sends it again. While one way is cut the other one stops soon, for want of acknowledgements. An end
that hears nothing for `SILENCE_S` is cut off by its owner, which is told by `on_silence`. What was
under way when an end closed arrives up to a random place.
"""

from bisect import insort
from collections.abc import Callable
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any

from meshlb.cluster.link import SILENCE_S
from meshlb.model import NodeName
from tests.sim.mesh.air import Air
from tests.sim.mesh.world import World

WINDOW_FRAMES = 10
"""What passes one way after the other one was cut: TCP's first window."""

RESUME_S_MAX = 0.8
"""The pause between retransmissions: how long after a mend a stream may still be stuck."""


@dataclass(eq=False)
class End:
    """One end of a stream, at one process."""

    host: NodeName
    on_frame: Callable[[Any], None]
    """Called in the process of the end, in order."""
    on_close: Callable[[bool], None]
    """The other end has closed, or the stream is broken; True where silence broke it."""
    is_open: bool = True
    other: "End" = field(init=False)
    stream: "Stream" = field(init=False)
    heard_at: float = 0.0
    arrives_at: float = 0.0
    """When the last frame to this end arrives; none may overtake it."""
    sent: int = 0
    """Frames sent to this end so far; so each has a number."""
    waiting: list[tuple[int, Any]] = field(default_factory=list)
    """Frames to this end that are stuck with the sender's kernel, in the order of numbers."""
    era: int = 0
    """Counts how often all that was under way to this end was lost."""
    passed: int = 0
    """Frames that came this way since the other way was cut."""

    def send(self, frame: Any) -> None:
        """Send a frame to the other end."""
        if self.is_open:
            self.stream.carry(self.other, frame)

    def close(self) -> None:
        """Close this end; the other one hears of it if it can."""
        if self.is_open:
            self.is_open = False
            self.stream.hang_up(self.other)

    def vanish(self) -> None:
        """The host of this end lost power: nobody is told, what was sent last may be lost."""
        self.is_open = False
        if self.stream.is_lucky():
            return
        self.other.era += 1
        self.other.waiting.clear()


class Stream:
    """A connection between two ends."""

    def __init__(self, one: End, other: End, *, pipes: "Pipes") -> None:
        self.ends = (one, other)
        one.other, other.other = other, one
        one.stream = other.stream = self
        one.heard_at = other.heard_at = pipes.world.now
        self._pipes = pipes
        self._hung_up: End | None = None
        """The end that is to hear of the other's close, once it can."""

    def is_lucky(self) -> bool:
        """Whether what is under way still arrives, when an end has gone."""
        return self._pipes.rng.random() < 0.5

    @property
    def is_over(self) -> bool:
        return not (self.ends[0].is_open or self.ends[1].is_open)

    def carry(self, to: End, frame: Any) -> None:
        """Send a frame to `to`, or keep it while it cannot go."""
        to.sent += 1
        self._carry(to, to.sent, frame)

    def _carry(self, to: End, number: int, frame: Any) -> None:
        if to.waiting or not self._may_pass(to):
            _keep(to, number, frame)
            return
        world = self._pipes.world
        delay_s = self._pipes.air.segment_delay(to.other.host, to.host)
        to.arrives_at = max(world.now + delay_s, to.arrives_at)
        era = to.era
        world.at(to.arrives_at, lambda: self._arrive(to, number, frame, era))

    def _may_pass(self, to: End) -> bool:
        air = self._pipes.air
        if not air.passes(to.other.host, to.host):
            return False
        if air.passes(to.host, to.other.host):
            to.passed = 0
            return True
        to.passed += 1
        return to.passed <= WINDOW_FRAMES

    def _arrive(self, to: End, number: int, frame: Any, era: int) -> None:
        if not to.is_open or era != to.era:
            return
        is_overtaking = bool(to.waiting) and to.waiting[0][0] < number
        if is_overtaking or not self._pipes.air.passes(to.other.host, to.host):
            _keep(to, number, frame)
            return
        to.heard_at = self._pipes.world.now
        to.on_frame(frame)

    def resume(self) -> None:
        """A cut was mended: what is stuck goes on, in order."""
        for to in self.ends:
            waiting, to.waiting = to.waiting, []
            for number, frame in waiting:
                self._carry(to, number, frame)
        if self._hung_up is not None:
            self.hang_up(self._hung_up)

    def hang_up(self, to: End) -> None:
        """Tell `to` that the other end is closed; what was under way is lost from some place on."""
        self._hung_up = to
        air, world = self._pipes.air, self._pipes.world
        if not to.is_open or not air.passes(to.other.host, to.host):
            return
        if not self.is_lucky():  # a reset: what is under way is lost
            at = world.now + air.segment_delay(to.other.host, to.host)
        else:
            at = max(to.arrives_at, world.now + air.segment_delay(to.other.host, to.host))
        to.waiting.clear()
        world.at(at, lambda: self.end(to, is_silence=False))

    def end(self, end: End, *, is_silence: bool) -> None:
        """Let one end hear that its stream is over."""
        if end.is_open:
            end.is_open = False
            end.on_close(is_silence)
            if is_silence:
                self.hang_up(end.other)


def _keep(to: End, number: int, frame: Any) -> None:
    """A frame is stuck: what was sent after it goes on after it."""
    insort(to.waiting, (number, frame), key=itemgetter(0))


class Pipes:
    """All streams of the world."""

    CHECK_S = 1.0

    def __init__(self, world: World, air: Air, is_mute: Callable[[NodeName], bool]) -> None:
        """`is_mute`: whether a host sends nothing of its own, not even keep-alives."""
        self.world = world
        self.air = air
        self.rng = world.chance("pipes")
        self._is_mute = is_mute
        self._streams: list[Stream] = []
        world.at(self.CHECK_S, self._look_for_silence)

    def connect(self, one: End, other: End) -> Stream:
        """A new stream."""
        stream = Stream(one, other, pipes=self)
        self._streams.append(stream)
        return stream

    def between(self, one: NodeName, other: NodeName) -> list[Stream]:
        """The open streams of two hosts."""
        return [
            stream
            for stream in self._streams
            if not stream.is_over and {end.host for end in stream.ends} == {one, other}
        ]

    def break_(self, stream: Stream) -> None:
        """Reset a stream: both ends hear of it, and what was under way is lost."""
        for end in stream.ends:
            end.waiting.clear()
            stream.end(end, is_silence=False)

    def host_is_back(self, name: NodeName) -> None:
        """A host that had vanished answers again, and knows nothing of its streams."""
        for stream in self._streams:
            for end in stream.ends:
                if end.host == name and not end.is_open and end.other.is_open:
                    stream.hang_up(end.other)

    def mended(self) -> None:
        """Some way passes again."""
        for stream in self._streams:
            if (not stream.is_over and (stream.ends[0].waiting or stream.ends[1].waiting)) or (
                stream._hung_up is not None and stream._hung_up.is_open
            ):
                self.world.at(self.world.now + self.rng.random() * RESUME_S_MAX, stream.resume)

    def _look_for_silence(self) -> None:
        now = self.world.now
        self._streams = [stream for stream in self._streams if not stream.is_over]
        for stream in self._streams:
            for end in stream.ends:
                if not end.is_open:
                    continue
                if self._is_mute(end.host):  # nobody looks
                    end.heard_at = now
                    continue
                passes = self.air.passes(end.other.host, end.host) and self.air.passes(
                    end.host, end.other.host
                )
                if passes and end.other.is_open and not self._is_mute(end.other.host):
                    end.heard_at = now  # the keep-alives
                elif now - end.heard_at > SILENCE_S:
                    stream.end(end, is_silence=True)
        self.world.at(now + self.CHECK_S, self._look_for_silence)
