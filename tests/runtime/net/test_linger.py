"""Waiting beside trio: for one's own descriptor, and never in the way of trio's tasks."""

import socket

import pytest
import trio
import trio.testing

from meshlb.net import linger as linger_module
from meshlb.net.linger import Found, Linger


class Ends:
    """A linger on one end of a connection."""

    def __init__(self) -> None:
        self.ours, self.theirs = socket.socketpair()
        self.linger = Linger(self.ours.fileno())

    def __enter__(self) -> "Ends":
        self.linger.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self.linger.__exit__()
        self.ours.close()
        self.theirs.close()


async def test_the_installed_trio_can_be_waited_for() -> None:
    assert linger_module._inside_of_trio() is not None


async def test_what_comes_to_the_descriptor_is_found() -> None:
    with Ends() as ends:
        ends.theirs.send(b"x")
        assert ends.linger.wait() is Found.OURS


async def test_a_moment_in_which_nothing_comes_ends() -> None:
    with Ends() as ends:
        assert ends.linger.wait() is Found.NOTHING


async def test_a_task_of_trio_that_can_run_is_not_kept_waiting() -> None:
    with Ends() as ends:
        ends.theirs.send(b"x")
        event = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(event.wait)
            await trio.testing.wait_all_tasks_blocked()
            event.set()
            assert ends.linger.wait() is Found.TRIOS


async def test_a_socket_that_a_task_of_trio_waits_for_ends_the_moment() -> None:
    with Ends() as ends:
        far, plain = socket.socketpair()
        with far, trio.socket.from_stdlib_socket(plain) as near:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(near.recv, 1)
                await trio.testing.wait_all_tasks_blocked()
                far.send(b"x")
                assert ends.linger.wait() is Found.TRIOS


async def test_what_a_thread_has_for_trio_ends_the_moment() -> None:
    with Ends() as ends:
        token = trio.lowlevel.current_trio_token()
        token.run_sync_soon(lambda: None)
        assert ends.linger.wait() is Found.TRIOS


async def test_where_trio_cannot_be_waited_for_nobody_lingers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(linger_module, "_inside_of_trio", lambda: None)
    with Ends() as ends:
        assert ends.linger.wait() is Found.TRIOS


async def test_a_deadline_of_trio_that_has_passed_goes_first() -> None:
    with Ends() as ends:
        ends.theirs.send(b"x")
        async with trio.open_nursery() as nursery:
            due = trio.current_time() + 0.01
            nursery.start_soon(trio.sleep_until, due)
            await trio.lowlevel.checkpoint()
            while trio.current_time() <= due:
                pass
            assert ends.linger.wait() is Found.TRIOS


async def test_a_task_that_woke_in_the_same_pass_goes_first() -> None:
    with Ends() as ends:
        ends.theirs.send(b"x")
        found: list[Found] = []

        async def look() -> None:
            found.append(ends.linger.wait())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(look)
            nursery.start_soon(look)
        assert found[0] is Found.TRIOS
