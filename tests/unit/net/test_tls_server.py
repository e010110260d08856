import ssl
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from meshlb.config.schema import TlsSettings
from meshlb.errors import ConfigError
from meshlb.net import tls_server
from meshlb.net.tls_server import ServerTls
from meshlb.net.tls_trial import connect
from tests.fakes.certificates import Authority, Files

SECRET = b"s" * 32


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def settings(files: Files, **options: Any) -> TlsSettings:
    shown = {
        name: str(value) if isinstance(value, Path) else value for name, value in options.items()
    }
    return TlsSettings(cert=str(files.cert), key=str(files.key), **shown)


def tls_of(given: TlsSettings, *, listener: str = "web", secret: bytes = SECRET) -> ServerTls:
    return ServerTls(
        given, listener=listener, speaks_http=True, secrets=(secret,), now=lambda: 1_000_000.0
    )


def client(authority: Authority, version: ssl.TLSVersion | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=authority.ca)
    context.check_hostname = False
    if version is not None:
        context.maximum_version = version
    return context


def resumed(own: ssl.SSLContext, begin: ServerTls, resume: ServerTls) -> bool | None:
    session = connect(own, begin._default).session
    return connect(own, resume._default, session).session_reused


def test_nodes_of_one_secret_resume_each_others_sessions_at_the_same_listener(
    authority: Authority,
) -> None:
    given = settings(authority.sign("a.example"))
    own = client(authority)
    assert resumed(own, tls_of(given), tls_of(given))
    assert not resumed(own, tls_of(given), tls_of(given, listener="other"))
    assert not resumed(own, tls_of(given), tls_of(given, secret=b"t" * 32))


def test_secrets_may_change(authority: Authority) -> None:
    given = settings(authority.sign("a.example"))
    here, there = tls_of(given), tls_of(given)
    own = client(authority)
    session = connect(own, here._default).session
    there.use_secrets((b"t" * 32, SECRET))
    assert connect(own, there._default, session).session_reused
    there.use_secrets((b"t" * 32,))
    assert not connect(own, there._default, session).session_reused


def test_who_has_shown_no_certificate_cannot_resume_where_one_is_asked_for(
    authority: Authority,
) -> None:
    files = authority.sign("a.example")
    lax, strict = tls_of(settings(files)), tls_of(settings(files, client_ca=authority.ca))
    own = client(authority, ssl.TLSVersion.TLSv1_2)
    session = connect(own, lax._default).session
    with pytest.raises(ssl.SSLError):
        connect(own, strict._default, session)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_resumption_may_be_turned_off(authority: Authority, version: ssl.TLSVersion) -> None:
    off = tls_of(settings(authority.sign("a.example"), resumption=False))
    session = connect(client(authority, version), off._default).session
    assert session is None or not session.has_ticket


def test_where_sharing_does_not_work_sessions_stay_with_their_node(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls_server, "resumes_at", lambda *contexts: False)
    given = settings(authority.sign("a.example"))
    here, there, own = tls_of(given), tls_of(given), client(authority)
    assert resumed(own, here, here)
    assert not resumed(own, here, there)


def test_where_openssl_is_not_at_hand_sessions_stay_with_their_node(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls_server, "openssl_of_python", lambda: None)
    given = settings(authority.sign("a.example"))
    here, own = tls_of(given), client(authority)
    assert resumed(own, here, here)


def test_a_file_that_cannot_be_used_is_named(authority: Authority) -> None:
    files, other = authority.sign("a.example"), authority.sign("b.example")
    for broken in (
        Files(files.cert, other.key),
        Files(authority.directory / "nowhere", files.key),
        authority.sign("locked", passphrase=b"secret"),
    ):
        with pytest.raises(ConfigError, match=r"^listener web: tls: .*see `meshlb check`"):
            tls_of(settings(broken))


def test_two_kinds_of_key_for_the_same_names_serve_side_by_side(authority: Authority) -> None:
    elliptic = authority.sign("a.example")
    key = rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
    other = authority.sign("rsa", names=("a.example",), private_key=key)
    pair = {"cert": str(other.cert), "key": str(other.key)}
    both = tls_of(settings(elliptic, certificates=[pair]))
    own = client(authority, ssl.TLSVersion.TLSv1_2)
    for cipher in ("ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES128-GCM-SHA256"):
        own.set_ciphers(cipher)
        used = connect(own, both._default).cipher()
        assert used is not None
        assert used[0] == cipher
