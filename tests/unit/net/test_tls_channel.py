"""A channel between real sockets, and Python's own client at the other end."""

import socket
import ssl
from collections.abc import Iterator

import pytest

from meshlb.net import tls_channel
from meshlb.net.sockets import RESET_ON_CLOSE
from meshlb.net.tls_channel import (
    RECORD_BYTES,
    TlsChannel,
    handshake_fault,
    openssl_of_python,
    was_broken_off,
)
from tests.fakes.certificates import Authority

Pair = tuple[ssl.SSLSocket, TlsChannel]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("channel"))


@pytest.fixture
def pair(authority: Authority) -> Iterator[Pair]:
    """A client and a channel that have shaken hands; neither waits for anything."""
    files = authority.sign("a.example")
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(files.cert, files.key)
    server.sslsocket_class = TlsChannel
    near, far = socket.socketpair()
    for sock in (near, far):
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65_536)
    options = {"do_handshake_on_connect": False, "suppress_ragged_eofs": False}
    client = trusting(authority).wrap_socket(near, server_hostname="a.example", **options)
    channel = server.wrap_socket(far, server_side=True, **options)
    assert isinstance(channel, TlsChannel)
    done: set[ssl.SSLSocket] = set()
    while len(done) < 2:
        for end in (client, channel):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            done.add(end)
    yield client, channel
    client.close()
    channel.close()


def trusting(authority: Authority) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=authority.ca)


def test_nothing_to_read_is_said_as_a_socket_says_it(pair: Pair) -> None:
    _, channel = pair
    with pytest.raises(BlockingIOError):
        channel.recv(100)


def test_each_read_gives_a_record_and_holds_nothing_back(pair: Pair) -> None:
    client, channel = pair
    client.send(b"one")
    client.send(b"two")
    assert channel.recv(65_536) == b"one"
    assert channel.pending() == 0
    assert channel.recv(65_536) == b"two"
    client.send(bytes(RECORD_BYTES))
    assert len(channel.recv(65_536)) == RECORD_BYTES
    assert channel.pending() == 0


def test_half_a_record_is_nothing_yet(pair: Pair) -> None:
    client, channel = pair
    client.send(b"whole")
    record = socket.socket.recv(channel, 65_536)
    with_nothing = (record[:3], record[3:10], record[10:-1])
    for piece in with_nothing:
        socket.socket.send(client, piece)
        with pytest.raises(BlockingIOError):
            channel.recv(100)
    socket.socket.send(client, record[-1:])
    assert channel.recv(100) == b"whole"


def test_more_than_the_kernel_takes_is_sent_by_and_by_and_arrives_in_order(pair: Pair) -> None:
    client, channel = pair
    said = bytes(range(256)) * 8_000
    backlog = bytearray(said)
    heard = b""
    blocked = 0
    while len(heard) < len(said):
        try:
            while backlog:
                del backlog[: channel.send(backlog)]
        except BlockingIOError:
            blocked += 1
        try:
            while True:
                heard += client.recv(65_536)
        except ssl.SSLWantReadError:
            pass
    assert blocked
    assert heard == said


def test_what_is_appended_to_a_blocked_write_follows_it(pair: Pair) -> None:
    client, channel = pair
    backlog = bytearray(b"a" * 100)
    while True:
        try:
            channel.send(bytes(backlog))
        except BlockingIOError:
            break
    backlog += b"b" * 100_000
    heard = b""
    while not heard.endswith(b"b" * 100):
        try:
            while True:
                heard += client.recv(65_536)
        except ssl.SSLWantReadError:
            pass
        try:
            while backlog:
                del backlog[: channel.send(backlog)]
        except BlockingIOError:
            pass
    assert heard.endswith(b"a" * 100 + b"b" * 100_000)


def test_nothing_is_sent_as_nothing(pair: Pair) -> None:
    client, channel = pair
    assert channel.send(b"") == 0
    with pytest.raises(ssl.SSLWantReadError):
        client.recv(1)


def test_the_end_is_told_apart_from_a_cut(pair: Pair) -> None:
    client, channel = pair
    client.send(b"last")
    with pytest.raises(ssl.SSLWantReadError):
        client.unwrap()
    assert channel.recv(100) == b"last"
    assert channel.recv(100) == b""
    assert channel.recv(100) == b""
    assert not channel.was_cut


def test_an_end_that_was_not_stated_is_a_cut(pair: Pair) -> None:
    client, channel = pair
    client.close()
    assert channel.recv(100) == b""
    assert channel.was_cut


def test_closing_says_goodbye(pair: Pair) -> None:
    client, channel = pair
    channel.send(b"last")
    channel.close()
    assert client.recv(100) == b"last"
    assert client.recv(100) == b""


def test_a_reset_says_no_goodbye(pair: Pair) -> None:
    client, channel = pair
    channel.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
    channel.close()
    with pytest.raises(OSError, match="EOF"):
        client.recv(100)


def test_after_its_own_end_it_still_reads(pair: Pair) -> None:
    client, channel = pair
    client.send(b"crossing")
    channel.shutdown(socket.SHUT_WR)
    assert channel.recv(100) == b"crossing"
    assert client.recv(100) == b""
    client.send(b"later")
    assert channel.recv(100) == b"later"


def test_without_openssl_at_hand_the_end_is_stated_all_the_same(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls_channel, "openssl_of_python", lambda: None)
    client, channel = pair
    channel.shutdown(socket.SHUT_WR)
    assert client.recv(100) == b""
    client.close()
    assert channel.recv(100) == b""


def test_what_is_not_authentic_breaks_the_connection(pair: Pair) -> None:
    client, channel = pair
    socket.socket.send(client, b"\x17\x03\x03\x00\x20" + bytes(32))
    with pytest.raises(OSError, match=r"(?i)decryption|record"):
        channel.recv(100)


def test_why_a_handshake_failed_is_told() -> None:
    refused = ssl.SSLError(1, "[SSL: NO_SHARED_CIPHER] no shared cipher")
    refused.reason = "NO_SHARED_CIPHER"
    assert handshake_fault(refused) == "no shared cipher"
    assert handshake_fault(ConnectionResetError()) == "broken off"
    assert was_broken_off(ssl.SSLEOFError())
    assert not was_broken_off(refused)


def test_openssl_is_looked_for_once() -> None:
    assert openssl_of_python() is openssl_of_python()
    assert openssl_of_python() is not None


def test_what_was_taken_leave_of_is_lost_for_whoever_goes_on(pair: Pair) -> None:
    _, channel = pair
    channel.close()
    for go_on in (channel.do_handshake, channel.recv, lambda: channel.send(b"more")):
        with pytest.raises(ConnectionAbortedError, match="taken leave of"):
            go_on()
