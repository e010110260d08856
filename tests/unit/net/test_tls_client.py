"""What needs no backend; the rest is in `runtime/proxy/test_backend_tls.py`."""

import ssl
from pathlib import Path

import pytest
import trio

from meshlb.config.schema import PoolTlsSettings
from meshlb.errors import ConfigError, UpstreamError
from meshlb.model import Address
from meshlb.net.tls_client import ClientTls, connect
from tests.fakes.certificates import Authority


def test_a_backend_is_known_by_its_host_or_by_the_name_that_the_pool_says() -> None:
    address = Address("10.0.0.7", 443)
    assert ClientTls(PoolTlsSettings(), pool="app").name_of(address) == "10.0.0.7"
    named = PoolTlsSettings(server_name="app.example")
    assert ClientTls(named, pool="app").name_of(address) == "app.example"


def test_certificates_and_names_are_checked_unless_told_otherwise() -> None:
    checked = ClientTls(PoolTlsSettings(), pool="app").probe_context
    assert checked.check_hostname
    assert checked.verify_mode is ssl.CERT_REQUIRED
    assert checked.minimum_version is ssl.TLSVersion.TLSv1_2
    unchecked = ClientTls(PoolTlsSettings(verify=False, min_version="1.3"), pool="app")
    assert unchecked.probe_context.verify_mode is ssl.CERT_NONE
    assert unchecked.probe_context.minimum_version is ssl.TLSVersion.TLSv1_3


def test_a_file_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    one, other = authority.sign("one"), authority.sign("other")
    for broken in (
        PoolTlsSettings(ca=str(tmp_path / "nowhere")),
        PoolTlsSettings(cert=str(one.cert), key=str(other.key)),
    ):
        with pytest.raises(ConfigError, match=r"^pool app: tls: .*see `meshlb check`"):
            ClientTls(broken, pool="app")


async def test_who_does_not_speak_tls_is_at_fault() -> None:
    async def answer(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with trio.open_nursery() as nursery:
        serve = await nursery.start(trio.serve_tcp, answer, 0)
        port = serve[0].socket.getsockname()[1]
        tls = ClientTls(PoolTlsSettings(), pool="app")
        with pytest.raises(UpstreamError, match=r"no TLS: \w+") as caught:
            await connect(Address("127.0.0.1", port), tls, timeout_s=5)
        assert caught.value.status == 502
        nursery.cancel_scope.cancel()
