from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from meshlb.cli.check import check
from meshlb.config import load, parse
from meshlb.config.certificates import PEM_BYTES_MAX, expires_soon, out_of_date, utc_now
from meshlb.errors import ConfigError
from tests.fakes.certificates import BOTH_ROLES, DAY, Authority, Files
from tests.unit.config.test_loader import SECRET


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def text(files: Files, ca: Path, /, **options: Any) -> str:
    shown = {"cert": files.cert.name, "key": files.key.name, "ca": ca.name}
    table = ", ".join(f'{name} = "{value}"' for name, value in {**shown, **options}.items())
    return f"""
[node]
name = "lb-1"
[cluster]
name = "shop"
bind = "127.0.0.1:7946"
secrets = ["{SECRET}"]
tls = {{ {table} }}
""".replace('"false"', "false")


def faults(authority: Authority, files: Files, /, **options: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse(text(files, authority.ca, **options), directory=authority.directory)
    return list(caught.value.faults)


def test_files_that_fit_are_good(authority: Authority) -> None:
    files = authority.sign("lb-1", roles=BOTH_ROLES)
    settings = parse(text(files, authority.ca), directory=authority.directory)
    assert settings.cluster is not None
    assert settings.cluster.tls is not None
    assert settings.cluster.tls.cert == files.cert
    assert settings.cluster.tls.verify_names


@pytest.mark.parametrize("option", ["cert", "key", "ca"])
def test_a_file_that_is_missing_is_named(authority: Authority, option: str) -> None:
    (fault,) = faults(authority, authority.sign("lb-1"), **{option: "nowhere.pem"})
    where = authority.directory / "nowhere.pem"
    assert fault == f"cluster.tls.{option}: {where}: No such file or directory"


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ("cert", "holds no PEM certificate"),
        ("key", "holds no PEM private key"),
        ("ca", "holds no PEM certificate"),
    ],
)
@pytest.mark.parametrize(
    "content", [b"", b"nothing of the kind", b"\xff" * 100, b"-----BEGIN CERTIFICATE-----\nx"]
)
def test_a_file_of_something_else_is_named(
    authority: Authority, option: str, expected: str, content: bytes
) -> None:
    (authority.directory / "other.pem").write_bytes(content)
    (fault,) = faults(authority, authority.sign("lb-1"), **{option: "other.pem"})
    assert fault == f"cluster.tls.{option}: {authority.directory / 'other.pem'}: {expected}"


def test_a_huge_file_is_not_read(authority: Authority) -> None:
    (authority.directory / "huge.pem").write_bytes(b"x" * (PEM_BYTES_MAX + 1))
    (fault,) = faults(authority, authority.sign("lb-1"), cert="huge.pem")
    assert fault.endswith("larger than 1 MiB")


def test_all_faults_are_told_at_once_and_none_shows_a_key(authority: Authority) -> None:
    files = authority.sign("lb-1")
    found = faults(authority, files, cert="nowhere.pem", ca="nowhere.pem", key=files.cert.name)
    assert [fault.partition(":")[0] for fault in found] == [
        "cluster.tls.ca",
        "cluster.tls.cert",
        "cluster.tls.key",
    ]
    assert "PRIVATE" not in "".join(found)


def test_a_key_of_another_certificate_is_a_fault(authority: Authority) -> None:
    other = authority.sign("other").key.name
    (fault,) = faults(authority, authority.sign("lb-1"), key=other)
    assert fault == ('cluster.tls.key = "other.key": is not the key of the certificate in lb-1.pem')


def test_a_key_with_a_passphrase_is_a_fault(authority: Authority) -> None:
    files = authority.sign("lb-1", passphrase=b"sesame")
    (fault,) = faults(authority, files)
    assert fault.endswith("has a passphrase; expected a key without one")


def test_a_certificate_of_another_authority_is_a_fault(
    tmp_path: Path, authority: Authority
) -> None:
    files = Authority(tmp_path, "stranger").sign("lb-1")
    (fault,) = faults(authority, files)
    assert fault == (
        'cluster.tls.cert = "lb-1.pem": was issued by none of the authorities in authority.pem'
    )


def test_a_certificate_is_no_authority(authority: Authority) -> None:
    files = authority.sign("lb-1")
    (fault,) = faults(authority, files, ca="lb-1.pem")
    assert fault.endswith("CN=lb-1 is the certificate of no authority (CA:TRUE)")


@pytest.mark.parametrize(("names", "there"), [((), "none"), (("lb-2", "lb-3"), "lb-2, lb-3")])
def test_a_certificate_must_name_its_node_unless_names_are_left_unchecked(
    authority: Authority, names: tuple[str, ...], there: str
) -> None:
    files = authority.sign("lb-1", names=names)
    (fault,) = faults(authority, files)
    assert fault == (
        'cluster.tls.cert = "lb-1.pem": does not name this node: expected the DNS name lb-1 among'
        f" its alternative names, which are: {there}; or set `verify_names = false`"
    )
    unchecked = text(files, authority.ca, verify_names="false")
    assert parse(unchecked, directory=authority.directory)


@pytest.mark.parametrize(("role", "lacking"), [(0, "clientAuth"), (1, "serverAuth")])
def test_a_certificate_for_one_role_alone_is_a_fault(
    authority: Authority, role: int, lacking: str
) -> None:
    (fault,) = faults(authority, authority.sign("lb-1", roles=(BOTH_ROLES[role],)))
    assert fault.endswith(f"lacks the extended key usage {lacking}; it needs both")


@pytest.mark.parametrize(
    ("begins", "ends", "why"),
    [(-3 * DAY, -DAY, "expired at"), (DAY, 3 * DAY, "is not valid before")],
)
def test_check_refuses_a_certificate_out_of_its_time_and_a_node_starts_with_it(
    authority: Authority, begins: timedelta, ends: timedelta, why: str
) -> None:
    files = authority.sign("lb-1", begins=begins, ends=ends)
    config = authority.directory / "meshlb.toml"
    config.write_text(text(files, authority.ca), encoding="utf-8")
    assert load(config).cluster is not None
    result = CliRunner().invoke(check, [str(config)])
    assert result.exit_code == 2
    assert f"cluster.tls.cert: {files.cert}: {why}" in result.output


def test_a_certificate_that_expires_soon_is_worth_a_word(authority: Authority) -> None:
    soon, later = authority.sign("soon"), authority.sign("later", ends=90 * DAY)
    assert expires_soon(soon.cert, utc_now()) is not None
    assert expires_soon(later.cert, utc_now()) is None
    assert list(out_of_date(later.cert, utc_now())) == []
    assert list(out_of_date(Path("/nowhere"), utc_now())) == []
