"""The frame that ends a WebSocket, read by another implementation."""

import pytest
import wsproto.frame_protocol as ws

from meshlb.core.websocket.close import CloseCode, close_frame


@pytest.mark.parametrize("mask", [None, b"\x01\x02\x03\x04"])
@pytest.mark.parametrize("code", list(CloseCode))
def test_our_close_frame_is_understood(code, mask):
    protocol = ws.FrameProtocol(client=mask is None, extensions=[])
    protocol.receive_bytes(close_frame(code, "über", mask=mask))
    (received,) = protocol.received_frames()
    assert received.opcode is ws.Opcode.CLOSE
    assert received.payload == (code, "über")
