"""The example of RFC 6455 section 1.3."""

from meshlb.core.websocket.handshake import accept_value


def test_the_rfcs_key_has_the_rfcs_answer():
    assert accept_value(b"dGhlIHNhbXBsZSBub25jZQ==") == b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
