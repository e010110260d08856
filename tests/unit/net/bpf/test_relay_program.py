"""The program of the relay between real sockets: what it redirects, passes, counts and tells."""

import contextlib
import socket
import time
from collections.abc import Iterator

import pytest

from meshlb.net.bpf import calls, ring
from meshlb.net.bpf.calls import BpfError
from meshlb.net.bpf.relay_program import (
    COLUMNS,
    FORWARDED,
    LIMIT,
    LOW,
    NOTICED,
    PASSED,
    REDIRECTED,
    RelayProgram,
    ring_size_bytes,
)
from tests.fakes.privileges import as_nobody, need_kernel_relay

PATIENCE_S = 60


class Relayed:
    """Two connections whose inner ends sit at places 0 and 1."""

    def __init__(self, program: RelayProgram) -> None:
        self.program = program
        self.client, self.near_client = connection()
        self.backend, self.near_backend = connection()
        program.seat(0, self.near_client)
        program.seat(1, self.near_backend)

    def row(self, place: int = 0) -> list[int]:
        return list(self.program.rows[place * COLUMNS : (place + 1) * COLUMNS])

    def set(self, place: int = 0, **columns: int) -> None:
        names = {"limit": LIMIT, "low": LOW, "noticed": NOTICED, "forwarded": FORWARDED}
        for name, value in columns.items():
            self.program.rows[place * COLUMNS + names[name]] = value

    def close(self) -> None:
        for sock in (self.client, self.near_client, self.backend, self.near_backend):
            sock.close()


def connection() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        far = socket.create_connection(server.getsockname())
        near, _ = server.accept()
    far.settimeout(PATIENCE_S)
    near.setblocking(False)
    return far, near


def exactly(sock: socket.socket, size: int) -> bytes:
    received = b""
    give_up_at = time.monotonic() + PATIENCE_S
    while len(received) < size and time.monotonic() < give_up_at:
        with contextlib.suppress(BlockingIOError):
            chunk = sock.recv(size - len(received))
            if not chunk:
                break
            received += chunk
            continue
        time.sleep(0.001)
    return received


@pytest.fixture
def relayed() -> Iterator[Relayed]:
    need_kernel_relay()
    program = RelayProgram(4)
    pair = Relayed(program)
    yield pair
    pair.close()
    program.close()


def test_without_a_limit_everything_is_passed_to_user_space_and_told_once(relayed: Relayed):
    relayed.client.sendall(b"one")
    assert exactly(relayed.near_client, 3) == b"one"
    relayed.client.sendall(b"four")
    assert exactly(relayed.near_client, 4) == b"four"
    assert relayed.row()[PASSED] == 7
    assert list(relayed.program.notices()) == [0]
    assert relayed.row()[NOTICED] == 1


def test_within_the_limit_bytes_go_to_the_peer_and_nobody_is_told(relayed: Relayed):
    relayed.set(limit=100, low=100)
    relayed.set(1, limit=100, low=100)
    relayed.client.sendall(b"ping")
    assert exactly(relayed.backend, 4) == b"ping"
    relayed.backend.sendall(b"pong!")
    assert exactly(relayed.client, 5) == b"pong!"
    assert (relayed.row(0)[REDIRECTED], relayed.row(1)[REDIRECTED]) == (4, 5)
    assert list(relayed.program.notices()) == []


def test_user_space_is_told_at_the_low_mark_and_passed_what_is_beyond_the_limit(relayed: Relayed):
    relayed.set(limit=20, low=10)
    relayed.client.sendall(b"x" * 15)
    assert exactly(relayed.backend, 15) == b"x" * 15
    assert list(relayed.program.notices()) == [0]
    relayed.client.sendall(b"y" * 15)
    assert exactly(relayed.backend, 15) == b"y" * 15
    relayed.client.sendall(b"z")
    assert exactly(relayed.near_client, 1) == b"z"
    assert list(relayed.program.notices()) == [], "told already"


def test_while_user_space_holds_bytes_no_later_ones_overtake_them(relayed: Relayed):
    relayed.client.sendall(b"early")
    assert exactly(relayed.near_client, 5) == b"early"
    relayed.set(limit=100)
    relayed.client.sendall(b"late")
    assert exactly(relayed.near_client, 4) == b"late"
    relayed.set(forwarded=9)
    relayed.client.sendall(b"later")
    assert exactly(relayed.backend, 5) == b"later"


def test_a_fin_ends_its_own_direction_only(relayed: Relayed):
    relayed.set(limit=100, low=100)
    relayed.set(1, limit=100, low=100)
    relayed.client.shutdown(socket.SHUT_WR)
    give_up_at = time.monotonic() + PATIENCE_S
    while time.monotonic() < give_up_at:
        with contextlib.suppress(BlockingIOError):
            assert relayed.near_client.recv(1) == b""
            break
    relayed.backend.sendall(b"still here")
    assert exactly(relayed.client, 10) == b"still here"


def test_a_place_is_free_again_once_its_socket_is_closed(relayed: Relayed):
    relayed.client.sendall(b"x")
    assert exactly(relayed.near_client, 1) == b"x"
    program = relayed.program
    program.unseat(relayed.near_client)
    program.unseat(relayed.near_backend)
    relayed.close()
    again = Relayed(program)
    assert again.row() == [0] * COLUMNS
    again.set(limit=100, low=100)
    again.client.sendall(b"anew")
    assert exactly(again.backend, 4) == b"anew"
    again.close()


def test_more_notices_than_the_ring_holds_at_a_time_all_arrive(relayed: Relayed):
    rounds = 3 * ring_size_bytes(8) // ring.RECORD_BYTES
    for number in range(rounds):
        relayed.client.sendall(b"x")
        assert exactly(relayed.near_client, 1) == b"x"
        assert list(relayed.program.notices()) == [0], number
        relayed.set(noticed=0)


def test_a_socket_that_has_ended_cannot_be_seated_and_stays_as_it_was(relayed: Relayed):
    far, near = connection()
    near.close()
    listening = socket.create_server(("127.0.0.1", 0))
    unconnected = socket.socket()
    with far, listening, unconnected, pytest.raises(BpfError):
        relayed.program.seat(2, unconnected)


def test_the_ring_has_room_for_a_notice_from_every_place():
    for places in (2, 1_000, 131_072):
        size = ring_size_bytes(places)
        assert size >= places * ring.RECORD_BYTES
        assert size & (size - 1) == 0


def test_without_privileges_the_reason_names_what_it_takes():
    with pytest.raises(BpfError, match="CAP_BPF and CAP_NET_ADMIN"):
        as_nobody(lambda: RelayProgram(1).close())


def test_a_program_that_the_verifier_refuses_says_why():
    need_kernel_relay()
    with pytest.raises(BpfError, match="R0 !read_ok"):
        calls.load_program(bytes.fromhex("9500000000000000"))
