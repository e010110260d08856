"""Streams over mutual TLS: real certificates, real sockets, and each way in which they fail."""

import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import trio
from structlog.testing import capture_logs

from meshlb.cluster import links
from meshlb.net.mutual_tls import MutualTls
from meshlb.net.tls_stream import TlsStream
from meshlb.wire.handshake import FrameKind, frame
from tests.fakes.certificates import DAY, Authority, Files
from tests.runtime.cluster.kit import Node, key_of, proposal, until


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def tls(files: Files, authority: Authority, *, verify_names: bool = True) -> MutualTls:
    return MutualTls.load(
        cert=files.cert, key=files.key, ca=authority.ca, verify_names=verify_names
    )


@asynccontextmanager
async def running(*nodes: Node) -> AsyncIterator[list[Any]]:
    """Nodes that run; what they log."""
    with capture_logs() as lines:
        async with trio.open_nursery() as nursery:
            for node in nodes:
                await nursery.start(node.run)
            yield lines
            nursery.cancel_scope.cancel()


def told(lines: list[Any], level: str) -> list[tuple[str, str]]:
    """Reason and detail of the lines about refusals."""
    return [
        (line["reason"], line.get("detail", ""))
        for line in lines
        if line["log_level"] == level and "refused" in line["event"]
    ]


def pair(at_a: MutualTls | None, at_b: MutualTls | None) -> tuple[Node, Node]:
    """b dials a, and a hears of b only from b."""
    a = Node("a", tls=at_a)
    return a, Node("b", tls=at_b, join=[a.address])


async def test_nodes_with_certificates_of_one_authority_agree(authority: Authority) -> None:
    nodes: list[Node] = []
    for name in ("a", "b", "c"):
        joins = [node.address for node in nodes]
        nodes.append(Node(name, tls=tls(authority.sign(name), authority), join=joins))
    async with running(*nodes):
        await until(lambda: all(node.sees_alive("a", "b", "c") for node in nodes))
        await until(lambda: all(node.is_synced for node in nodes))
        for number in range(50):
            here, there = nodes[number % 3], nodes[(number + 1) % 3]
            one = await here.mesh.table.claim(proposal(key_of(number), "s1"))
            other = await there.mesh.table.claim(proposal(key_of(number), "s2"))
            assert one.backend == other.backend == "s1"
        await until(lambda: all(len(node.store.pins) == 50 for node in nodes))
        agent = nodes[0].part.agent
        assert all(isinstance(link._stream, TlsStream) for link in agent.links.all())


@pytest.mark.parametrize("is_dialler_wrong", [True, False])
@pytest.mark.parametrize(
    ("begins", "ends", "why", "alert"),
    [
        (-2 * DAY, -DAY, "certificate has expired", "certificate expired"),
        (DAY, 2 * DAY, "certificate is not yet valid", "bad certificate"),
    ],
    ids=["expired", "not yet valid"],
)
async def test_a_certificate_out_of_its_time_is_refused_and_both_say_so(
    authority: Authority,
    begins: timedelta,
    ends: timedelta,
    why: str,
    alert: str,
    is_dialler_wrong: bool,
) -> None:
    good = tls(authority.sign("a"), authority)
    stale = tls(authority.sign("b", begins=begins, ends=ends), authority)
    if is_dialler_wrong:
        a, b = pair(good, stale)
    else:
        b = Node("b", tls=stale)
        a = Node("a", tls=good, join=[b.address])
    async with running(a, b) as lines:
        believing, doubted = (
            f"the peer's certificate: {why}",
            (f"the peer does not accept this node's certificate: {alert}"),
        )
        await until(lambda: bool(told(lines, "error") and told(lines, "warning")))
        at_dialler, at_dialled = told(lines, "error")[0], told(lines, "warning")[0]
        expected = (doubted, believing) if is_dialler_wrong else (believing, doubted)
        assert (at_dialler, at_dialled) == tuple(("certificate", each) for each in expected)
        assert a.sees_alive("a")
        assert b.sees_alive("b")


async def test_a_certificate_of_another_authority_is_refused_and_both_say_so(
    tmp_path: Path, authority: Authority
) -> None:
    stranger = Authority(tmp_path, "stranger")
    foreign = MutualTls.load(
        cert=(files := stranger.sign("b")).cert, key=files.key, ca=authority.ca, verify_names=True
    )
    a, b = pair(tls(authority.sign("a"), authority), foreign)
    async with running(a, b) as lines:
        await until(lambda: bool(told(lines, "error") and told(lines, "warning")))
        refused = "the peer does not accept this node's certificate: unknown ca"
        assert told(lines, "error")[0] == ("certificate", refused)
        reason, detail = told(lines, "warning")[0]
        assert reason == "certificate"
        assert "issuer certificate" in detail
        assert a.sees_alive("a")
        assert a.mesh.counters.handshakes_refused["certificate"] > 0


async def test_a_certificate_that_names_another_node_is_refused(authority: Authority) -> None:
    """The secret is right, so is the authority: but b could pass for any node."""
    a, b = pair(
        tls(authority.sign("a"), authority), tls(authority.sign("b", names=("c",)), authority)
    )
    async with running(a, b) as lines:
        await until(lambda: bool(told(lines, "error") and told(lines, "warning")))
        assert told(lines, "warning")[0] == ("certificate", "the certificate of b names c")
        assert told(lines, "error")[0][0] == "certificate"
        assert a.sees_alive("a")


async def test_names_may_be_left_unchecked(authority: Authority) -> None:
    one = tls(authority.sign("any", names=()), authority, verify_names=False)
    a, b = pair(one, one)
    async with running(a, b):
        await until(lambda: a.sees_alive("a", "b") and b.sees_alive("a", "b"))


async def test_a_node_without_tls_is_told_that_it_is_required(authority: Authority) -> None:
    a, b = pair(tls(authority.sign("a"), authority), None)
    async with running(a, b) as lines:
        await until(lambda: bool(told(lines, "error") and told(lines, "warning")))
        assert told(lines, "error")[0] == ("tls-required", "")
        assert told(lines, "warning")[0] == ("tls-required", "")
        assert a.sees_alive("a")


async def test_a_node_with_tls_is_told_that_the_member_has_none(authority: Authority) -> None:
    a, b = pair(None, tls(authority.sign("b"), authority))
    async with running(a, b) as lines:
        await until(lambda: bool(told(lines, "error") and told(lines, "warning")))
        assert told(lines, "error")[0][0] == "no-tls"
        assert told(lines, "warning")[0] == ("no-tls", "")
        assert a.sees_alive("a")


async def test_who_shows_no_certificate_is_refused(authority: Authority) -> None:
    mine = tls(authority.sign("a"), authority)
    a = Node("a", tls=mine)
    bare = tls(authority.sign("x"), authority).client
    nameless = type(bare)(bare.protocol)
    nameless.check_hostname = False
    nameless.load_verify_locations(authority.ca)
    async with running(a) as lines:
        raw = await trio.open_tcp_stream(a.address.host, a.address.port)
        async with TlsStream(raw, nameless, server_side=False) as stream:
            await stream.do_handshake()
            with pytest.raises(trio.BrokenResourceError) as caught, trio.fail_after(60):
                await stream.receive_some(1)
        assert "CERTIFICATE_REQUIRED" in str(caught.value.__cause__)
        assert told(lines, "warning") == [("certificate", "the peer shows no certificate")]


async def test_the_secret_is_needed_beside_the_certificate(authority: Authority) -> None:
    a = Node("a", tls=tls(authority.sign("a"), authority))
    b = Node("b", tls=tls(authority.sign("b"), authority), join=[a.address], secrets=(b"x" * 32,))
    async with running(a, b) as lines:
        await until(lambda: bool(told(lines, "error") and told(lines, "warning")))
        assert told(lines, "error")[0] == ("other-secret", "")
        assert a.sees_alive("a")


@pytest.mark.parametrize(
    "first",
    [b"", b"\x16\x03\x01", frame(FrameKind.HELLO, b"x")[:2]],
    ids=["silent", "tls", "hello"],
)
async def test_who_stalls_in_mid_handshake_is_cut_off(
    authority: Authority, monkeypatch: pytest.MonkeyPatch, first: bytes
) -> None:
    monkeypatch.setattr(links, "HANDSHAKE_S", 0.2)
    a = Node("a", tls=tls(authority.sign("a"), authority))
    async with running(a):
        stream = await trio.open_tcp_stream(a.address.host, a.address.port)
        async with stream:
            if first:
                await stream.send_all(first)
            with trio.fail_after(60), contextlib.suppress(trio.BrokenResourceError):
                while await stream.receive_some(100):
                    pass
        failed, refused = a.mesh.counters.handshakes_failed, a.mesh.counters.handshakes_refused
        await until(lambda: failed["timeout"] + refused["tls-required"] == 1)


async def test_noise_instead_of_a_handshake_leaves_nothing(authority: Authority) -> None:
    a = Node("a", tls=tls(authority.sign("a"), authority))
    async with running(a):
        for noise in (
            b"GET / HTTP/1.1\r\n\r\n",
            b"\x16\x03\x01\xff\xff" + b"x" * 70_000,
            b"\x00" * 9,
        ):
            stream = await trio.open_tcp_stream(a.address.host, a.address.port)
            async with stream:
                with contextlib.suppress(trio.BrokenResourceError), trio.fail_after(60):
                    await stream.send_all(noise)
                    await stream.send_eof()
                    while await stream.receive_some(100):
                        pass
        agent = a.part.agent
        await until(lambda: not agent.links._half_open)
        assert a.sees_alive("a")
