from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner

from meshlb.cli.check import check
from meshlb.config import parse
from meshlb.config.certificates import utc_now
from meshlb.config.schema.tls import TlsSettings
from meshlb.config.tls_faults import warnings
from meshlb.errors import ConfigError
from tests.fakes.certificates import DAY, Authority

POOLS = """
[[pool.app.backend]]
name = "s1"
address = "127.0.0.1:9001"
[[pool.other.backend]]
name = "s1"
address = "127.0.0.1:9002"
"""


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    made = Authority(tmp_path)
    made.sign("a.example")
    made.sign("b.example")
    return made


def listener(*lines: str) -> str:
    own = '[[listener]]\nname = "web"\nbind = "127.0.0.1:8080"\npool = "app"'
    return "\n".join((own, *lines)) + POOLS


@pytest.fixture
def faults_of(authority: Authority) -> Callable[[str], list[str]]:
    def faults_of(text: str) -> list[str]:
        try:
            parse(text, directory=authority.directory)
        except ConfigError as error:
            return error.faults
        return []

    return faults_of


A = 'cert = "a.example.pem", key = "a.example.key"'
B = 'cert = "b.example.pem", key = "b.example.key"'


@pytest.mark.parametrize(
    "tls",
    [
        A,
        f"{A}, certificates = [{{ {B} }}]",
        f"certificates = [{{ {A} }}, {{ {B} }}]",
        f'{A}, min_version = "1.3", client_ca = "authority.pem", resumption = false',
    ],
)
def test_files_that_fit_are_good(faults_of: Callable[[str], list[str]], tls: str) -> None:
    assert faults_of(listener(f"tls = {{ {tls} }}")) == []
    assert faults_of(listener('protocol = "tcp"', f"tls = {{ {tls} }}")) == []


def test_the_default_certificate_comes_first(authority: Authority) -> None:
    def tls_of(table: str) -> TlsSettings:
        (web,) = parse(listener(f"tls = {{ {table} }}"), directory=authority.directory).listeners
        assert web.tls is not None
        return web.tls

    both = tls_of(f"{A}, certificates = [{{ {B} }}]")
    assert [pair.cert.name for pair in both.pairs] == ["a.example.pem", "b.example.pem"]
    one = tls_of(f"certificates = [{{ {B} }}]")
    assert [pair.key.name for pair in one.pairs] == ["b.example.key"]


@pytest.mark.parametrize(
    ("tls", "expected"),
    [
        ("", "listener[0].tls: required: `cert` and `key`, or `certificates`"),
        ('cert = "a.example.pem"', "listener[0].tls.key: required beside `cert`"),
        ('key = "a.example.key"', "listener[0].tls.cert: required beside `key`"),
        (
            'cert = "a.example.pem", key = "b.example.key"',
            'listener[0].tls.key = "b.example.key": is not the key of the certificate in'
            " a.example.pem",
        ),
        (
            f'certificates = [{{ {A} }}, {{ cert = "a.example.pem", key = "b.example.key" }}]',
            'listener[0].tls.certificates[1].key = "b.example.key": is not the key of the'
            " certificate in a.example.pem",
        ),
        (
            f'{A}, min_version = "1.1"',
            'listener[0].tls.min_version = "1.1": expected one of "1.2", "1.3"',
        ),
    ],
)
def test_what_does_not_fit_is_named(
    faults_of: Callable[[str], list[str]], tls: str, expected: str
) -> None:
    assert faults_of(listener(f"tls = {{ {tls} }}")) == [expected]


@pytest.mark.parametrize("option", ["cert", "key", "client_ca"])
def test_a_file_that_is_missing_is_named(
    authority: Authority, faults_of: Callable[[str], list[str]], option: str
) -> None:
    shown = {"cert": "a.example.pem", "key": "a.example.key", option: "nowhere.pem"}
    table = ", ".join(f'{name} = "{file}"' for name, file in shown.items())
    missing = authority.directory / "nowhere.pem"
    assert faults_of(listener(f"tls = {{ {table} }}")) == [
        f"listener[0].tls.{option}: {missing}: No such file or directory"
    ]


def test_udp_has_no_tls(faults_of: Callable[[str], list[str]]) -> None:
    faults = faults_of(listener('protocol = "udp"', f"tls = {{ {A} }}"))
    assert 'listener[0].tls: expected only with `protocol = "http"` or "tcp"' in faults


SNI = '[[listener.sni]]\nnames = ["a.example", "*.b.example"]\npool = "other"'


def test_names_may_lead_to_pools(faults_of: Callable[[str], list[str]]) -> None:
    assert faults_of(listener('protocol = "tcp"', SNI)) == []


@pytest.mark.parametrize("more", ['protocol = "http"', f'protocol = "tcp"\ntls = {{ {A} }}'])
def test_names_are_read_only_from_what_is_passed_through(
    faults_of: Callable[[str], list[str]], more: str
) -> None:
    (fault,) = faults_of(listener(more, SNI))
    assert fault.startswith("listener[0].sni: expected only with ")


def test_a_name_leads_to_one_pool_that_exists(faults_of: Callable[[str], list[str]]) -> None:
    again = '[[listener.sni]]\nnames = ["c.example", "A.example"]\npool = "nowhere"'
    assert faults_of(listener('protocol = "tcp"', SNI, again)) == [
        'listener[0].sni[1].names[1] = "A.example": listener[0].sni[0].names[0] has that name'
        " already",
        'listener[0].sni[1].pool = "nowhere": there is no such pool',
    ]


@pytest.mark.parametrize("name", ["", "a b", "*", "*.com", "a.*.example", "a..example"])
def test_what_can_be_no_name_is_refused(faults_of: Callable[[str], list[str]], name: str) -> None:
    (fault,) = faults_of(listener('protocol = "tcp"', SNI.replace("a.example", name, 1)))
    assert fault.startswith(f'listener[0].sni[0].names[0] = "{name}": expected a DNS name')


def test_what_will_not_be_believed_for_long_is_a_warning(authority: Authority) -> None:
    authority.sign("late", begins=-3 * DAY, ends=-DAY)
    authority.sign("early", begins=DAY)
    authority.sign("soon", ends=DAY)
    authority.sign("good", ends=30 * DAY)
    pairs = ", ".join(
        f'{{ cert = "{name}.pem", key = "{name}.key" }}'
        for name in ("late", "early", "soon", "good")
    )
    text = listener(f"tls = {{ certificates = [{pairs}] }}")
    found = list(warnings(parse(text, directory=authority.directory), utc_now()))
    assert [line.partition(": ")[2].partition(" UTC")[0][:12] for line in found] == [
        "expired at 2",
        "is not valid",
        "expires soon",
    ]
    assert not list(warnings(parse(listener(), directory=authority.directory), utc_now()))


def test_check_warns_and_finds_the_file_good(authority: Authority) -> None:
    authority.sign("late", begins=-3 * DAY, ends=timedelta())
    config = authority.directory / "node.toml"
    config.write_text(listener('tls = { cert = "late.pem", key = "late.key" }'))
    result = CliRunner().invoke(check, [str(config)])
    assert result.exit_code == 0
    assert f"meshlb: warning: {authority.directory / 'late.pem'}: expired at " in result.output
