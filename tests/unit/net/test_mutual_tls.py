import ssl
from pathlib import Path

import pytest
import trio

from meshlb.errors import ConfigError
from meshlb.net.mutual_tls import MutualTls, TlsFailure, tls_failure
from tests.fakes.certificates import Authority


def load(authority: Authority, **paths: Path) -> MutualTls:
    files = authority.sign("a")
    chosen = {"cert": files.cert, "key": files.key, "ca": authority.ca, **paths}
    return MutualTls.load(**chosen, verify_names=True)


def test_both_sides_want_a_certificate_and_nothing_below_tls_1_3(tmp_path: Path) -> None:
    made = load(Authority(tmp_path))
    for context in (made.client, made.server):
        assert context.verify_mode is ssl.CERT_REQUIRED
        assert context.minimum_version is ssl.TLSVersion.TLSv1_3


@pytest.mark.parametrize("option", ["cert", "key", "ca"])
def test_a_file_that_cannot_be_used_is_one_clear_line(tmp_path: Path, option: str) -> None:
    authority = Authority(tmp_path)
    with pytest.raises(ConfigError, match="see `meshlb check`"):
        load(authority, **{option: tmp_path / "nowhere.pem"})


def test_a_key_with_a_passphrase_asks_nobody(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    files = authority.sign("b", passphrase=b"sesame")
    with pytest.raises(ConfigError, match="passphrase"):
        load(authority, cert=files.cert, key=files.key)


def broken(cause: BaseException | None) -> trio.BrokenResourceError:
    error = trio.BrokenResourceError()
    error.__cause__ = cause
    return error


def ssl_error(reason: str) -> ssl.SSLError:
    error = ssl.SSLError(1, reason)
    error.reason = reason
    return error


@pytest.mark.parametrize(
    ("reason", "failure"),
    [
        ("PEER_DID_NOT_RETURN_A_CERTIFICATE", TlsFailure(True, "the peer shows no certificate")),
        (
            "TLSV1_ALERT_UNKNOWN_CA",
            TlsFailure(True, "the peer does not accept this node's certificate: unknown ca"),
        ),
        (
            "TLSV13_ALERT_CERTIFICATE_REQUIRED",
            TlsFailure(
                True, "the peer does not accept this node's certificate: certificate required"
            ),
        ),
        ("WRONG_VERSION_NUMBER", TlsFailure(False, "wrong version number")),
        ("TLSV1_ALERT_PROTOCOL_VERSION", TlsFailure(False, "tlsv1 alert protocol version")),
    ],
)
def test_what_openssl_says_in_words(reason: str, failure: TlsFailure) -> None:
    assert tls_failure(broken(ssl_error(reason))) == failure


@pytest.mark.parametrize("cause", [None, OSError("reset"), ssl.SSLEOFError(8, "EOF")])
def test_a_connection_that_was_cut_off_says_nothing_of_tls(cause: BaseException | None) -> None:
    assert tls_failure(broken(cause)) is None
