"""Where frames end, and frames of our own, checked against another implementation."""

import pytest
import wsproto.frame_protocol as ws
from hypothesis import given, settings
from hypothesis import strategies as st

from meshlb.core.websocket.frames import CloseCode, FrameTracker, close_frame

sizes = st.sampled_from([0, 1, 125, 126, 127, 65_535, 65_536]) | st.integers(0, 300)
frames = st.lists(st.tuples(sizes, st.booleans()), min_size=1, max_size=5)


def frame(size: int, *, masked: bool, opcode: ws.Opcode = ws.Opcode.BINARY) -> bytes:
    protocol = ws.FrameProtocol(client=masked, extensions=[])
    return bytes(protocol._serialize_frame(opcode, b"x" * size))


@settings(max_examples=60, deadline=None)
@given(frames, st.lists(st.integers(1, 70_000), max_size=6), st.booleans())
def test_boundaries_are_found_whatever_the_pieces(shape, cuts, first_bytes_alone):
    wire = [frame(size, masked=masked) for size, masked in shape]
    ends = {sum(map(len, wire[: n + 1])) for n in range(len(wire))}
    stream = b"".join(wire)
    tracker = FrameTracker()
    fed = 0
    steps = ([1] * 20 if first_bytes_alone else []) + cuts + [len(stream)]
    for step in steps:
        piece = stream[fed : fed + step]
        boundary = tracker.feed(piece)
        passed = [end for end in ends if fed < end <= fed + len(piece)]
        assert boundary == (max(passed) - fed if passed else -1)
        fed += len(piece)
        assert tracker.at_boundary is (fed in ends or fed == 0)
    assert tracker.at_boundary
    assert not tracker.closing


@pytest.mark.parametrize("masked", [True, False])
def test_a_close_frame_is_noticed(masked):
    tracker = FrameTracker()
    close = frame(2, masked=masked, opcode=ws.Opcode.CLOSE)
    for n in range(len(close)):
        tracker.feed(close[n : n + 1])
    assert tracker.closing


@pytest.mark.parametrize("mask", [None, b"\x01\x02\x03\x04"])
@pytest.mark.parametrize("code", list(CloseCode))
def test_our_close_frame_is_understood(code, mask):
    protocol = ws.FrameProtocol(client=mask is None, extensions=[])
    protocol.receive_bytes(close_frame(code, "über", mask=mask))
    (received,) = protocol.received_frames()
    assert received.opcode is ws.Opcode.CLOSE
    assert received.payload == (code, "über")
