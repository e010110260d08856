"""What goes from socket to socket through a pipe, and what is left of it."""

import os
import socket
from collections.abc import Iterator

import pytest

from meshlb.net.pipe import CARRY_BYTES_MAX, Pipe, open_pipe
from meshlb.net.sockets import RESET_ON_CLOSE

LARGE = os.urandom(4 * CARRY_BYTES_MAX)


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    pipe = open_pipe()
    if pipe is None:
        pytest.skip("this system cannot splice")
    yield pipe
    pipe.close()


class Path:
    """Two connections: what `sender` sends is at `source`; what goes to `target`, `reader` gets."""

    def __init__(self) -> None:
        self.sender, self.source = connection()
        self.target, self.reader = connection()

    def close(self) -> None:
        for sock in (self.sender, self.source, self.target, self.reader):
            sock.close()


def connection() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        one = socket.create_connection(server.getsockname())
        other, _ = server.accept()
    for sock in (one, other):
        sock.setblocking(False)
    return one, other


@pytest.fixture
def path() -> Iterator[Path]:
    path = Path()
    yield path
    path.close()


def carried(pipe: Pipe, path: Path) -> tuple[int, bytes]:
    return pipe.carry(path.source.fileno(), path.target.fileno())


def test_what_the_source_has_received_goes_to_the_target(pipe, path):
    path.sender.send(b"hello")
    assert carried(pipe, path) == (5, b"")
    assert path.reader.recv(10) == b"hello"


def test_a_source_that_has_nothing_is_not_waited_for(pipe, path):
    with pytest.raises(BlockingIOError):
        carried(pipe, path)


def test_at_the_end_of_the_source_nothing_is_taken(pipe, path):
    path.sender.send(b"bye")
    path.sender.shutdown(socket.SHUT_WR)
    assert carried(pipe, path) == (3, b"")
    assert carried(pipe, path) == (0, b"")


def test_what_the_target_does_not_take_is_given_back_in_order(pipe, path):
    path.target.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_096)
    path.reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    sent = LARGE[: path.sender.send(LARGE)]
    taken, left = carried(pipe, path)
    assert 0 < len(left) < taken <= CARRY_BYTES_MAX
    assert left == sent[taken - len(left) : taken]
    assert sent.startswith(path.reader.recv(1 << 20))


def test_a_broken_target_is_an_error_and_leaves_nothing_in_the_pipe(pipe, path):
    path.sender.send(b"lost")
    reset(path.reader)
    with pytest.raises(OSError, match="reset by peer"):
        carried(pipe, path)
    other = Path()
    other.sender.send(b"whole")
    assert carried(pipe, other) == (5, b"")
    assert other.reader.recv(10) == b"whole"
    other.close()


def test_a_broken_source_is_an_error(pipe, path):
    reset(path.sender)
    with pytest.raises(OSError, match="reset by peer"):
        carried(pipe, path)


def reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
    sock.close()
