"""What asks for a WebSocket by RFC 6455 section 4.1, what accepts it, and what does not quite."""

import pytest

from meshlb.core.websocket.handshake import is_accepting, is_opening

OPENING = {
    "upgrade": [b"websocket"],
    "connection": [b"keep-alive", b"upgrade"],
    "keys": [b"dGhlIHNhbXBsZSBub25jZQ=="],
    "versions": [b"13"],
}


def test_the_rfcs_example_is_an_opening() -> None:
    assert is_opening(**OPENING)


@pytest.mark.parametrize(
    "change",
    [
        {"upgrade": []},
        {"upgrade": [b"websocket", b"h2c"]},
        {"connection": [b"keep-alive"]},
        {"versions": []},
        {"versions": [b"8"]},
        {"versions": [b"13", b"13"]},
        {"keys": []},
        {"keys": OPENING["keys"] * 2},
        {"keys": [b"c2hvcnQ="]},
        {"keys": [b"dGhlIHNhbXBsZSBub25jZB=="]},
        {"keys": [b"dGhlIHNhbXBsZSBub25jZQ== "]},
    ],
)
def test_what_is_not_quite_an_opening_is_none(change: dict[str, list[bytes]]) -> None:
    assert not is_opening(**{**OPENING, **change})


def test_a_101_switches_to_a_websocket_and_to_nothing_else() -> None:
    assert is_accepting(upgrade=[b"websocket"], connection=[b"upgrade"])
    assert not is_accepting(upgrade=[b"h2c"], connection=[b"upgrade"])
    assert not is_accepting(upgrade=[b"websocket"], connection=[])
