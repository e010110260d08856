"""What is asked of OpenSSL itself; sharing between contexts is tried in `test_tls_server`."""

import socket
import ssl
from collections.abc import Iterator

import pytest

from meshlb.core.tls.tickets import PERIOD_S, PERIODS_BEHIND, TicketKeys
from meshlb.net import openssl
from meshlb.net.tls_trial import connect
from tests.fakes.certificates import Authority, Files

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return Authority(tmp_path_factory.mktemp("openssl")).sign("a.example")


class Clock:
    now_s = 1_000_000.0

    def __call__(self) -> float:
        return self.now_s


class Node:
    """A server that seals tickets as told."""

    def __init__(self, files: Files, *secrets: bytes, clock: Clock | None = None) -> None:
        self.keys = TicketKeys(secrets, purpose=b"web")
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(files.cert, files.key)
        self.kept = openssl.find().share_tickets(self.context, self.keys, clock or Clock())


def client(version: ssl.TLSVersion) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.maximum_version = version
    return context


@pytest.mark.parametrize("version", VERSIONS)
def test_a_session_is_resumed_at_another_node_of_the_same_secret(
    files: Files, version: ssl.TLSVersion
) -> None:
    here, there, stranger = Node(files, b"a" * 32), Node(files, b"a" * 32), Node(files, b"b" * 32)
    own = client(version)
    session = connect(own, here.context).session
    assert connect(own, there.context, session).session_reused
    assert not connect(own, stranger.context, session).session_reused


@pytest.mark.parametrize("version", VERSIONS)
def test_a_session_outlives_the_rotation_of_secrets_until_its_own_is_removed(
    files: Files, version: ssl.TLSVersion
) -> None:
    node = Node(files, b"a" * 32)
    own = client(version)
    session = connect(own, node.context).session
    node.keys.use((b"b" * 32, b"a" * 32))
    resumed = connect(own, node.context, session)
    assert resumed.session_reused
    node.keys.use((b"b" * 32,))
    assert not connect(own, node.context, session).session_reused
    assert connect(own, node.context, resumed.session).session_reused, "its ticket is a new one"


@pytest.mark.parametrize("version", VERSIONS)
def test_a_session_outlives_the_key_that_sealed_it_but_not_for_ever(
    files: Files, version: ssl.TLSVersion
) -> None:
    clock = Clock()
    node = Node(files, b"a" * 32, clock=clock)
    own = client(version)
    session = connect(own, node.context).session
    clock.now_s += PERIOD_S
    assert connect(own, node.context, session).session_reused
    clock.now_s += PERIODS_BEHIND * PERIOD_S
    assert not connect(own, node.context, session).session_reused


def test_a_ticket_that_was_changed_opens_nothing(files: Files) -> None:
    here, there = Node(files, b"a" * 32), Node(files, b"a" * 32)
    key = here.keys.sealing(Clock.now_s)
    own = client(ssl.TLSVersion.TLSv1_2)
    session = connect(own, here.context).session
    # The other node holds the key under its name, and another one beside it.
    there.keys._catch_up(Clock.now_s)
    there.keys._keys[key.name] = type(key)(key.name, key.cipher, b"?" * 32)
    assert not connect(own, there.context, session).session_reused


def test_a_clock_that_fails_costs_a_full_handshake_and_nothing_else(files: Files) -> None:
    def broken() -> float:
        raise RuntimeError("no clock")

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.cert, files.key)
    kept = openssl.find().share_tickets(context, TicketKeys((b"a",), purpose=b""), broken)
    for version in VERSIONS:
        own = client(version)
        session = connect(own, context).session
        assert not connect(own, context, session).session_reused
    assert kept


@pytest.fixture
def pair(files: Files) -> Iterator[tuple[ssl.SSLSocket, ssl.SSLSocket]]:
    """Both ends of a connection, the server's second."""
    near, far = socket.socketpair()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(files.cert, files.key)
    ends = [
        client(ssl.TLSVersion.TLSv1_3).wrap_socket(near, do_handshake_on_connect=False),
        server.wrap_socket(far, server_side=True, do_handshake_on_connect=False),
    ]
    for end in ends:
        end.setblocking(False)
    done: set[ssl.SSLSocket] = set()
    while len(done) < len(ends):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            done.add(end)
    yield ends[0], ends[1]
    for end in ends:
        end.close()


def test_a_goodbye_ends_one_direction_and_leaves_the_other(
    pair: tuple[ssl.SSLSocket, ssl.SSLSocket],
) -> None:
    near, far = pair
    near.send(b"on its way")
    openssl.find().say_goodbye(far)
    assert near.recv(1) == b""
    near.send(b", and more")
    assert far.recv(100) == b"on its way"
    assert far.recv(100) == b", and more"


def test_a_python_that_is_laid_out_otherwise_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openssl, "_word", lambda holder, index: 0)
    with pytest.raises(openssl.UnavailableError, match="laid out"):
        openssl.find()


def test_an_older_openssl_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ssl, "OPENSSL_VERSION_INFO", (1, 1, 1, 23, 15))
    with pytest.raises(openssl.UnavailableError):
        openssl.find()
