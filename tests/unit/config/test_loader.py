import base64
import ipaddress
from pathlib import Path

import pydantic
import pytest

from meshlb.config import DnsSeed, UnixPath, load, parse
from meshlb.config.loader import FILE_BYTES_MAX, read_token
from meshlb.errors import ConfigError
from meshlb.model import Address, KeySource, PoolName

SECRET = base64.b64encode(bytes(range(32))).decode()

CONTRACT = f"""
[node]
name = "lb-1"
data_dir = "state"
workers = 0
shutdown_timeout = "10s"

[cluster]
name = "shop"
bind = "127.0.0.1:7946"
advertise = "10.0.0.1:7946"
join = ["127.0.0.1:7947", "dns:meshlb.internal:7946"]
secrets = ["{SECRET}"]
mode = "available"
profile = "lan"

[admin]
bind = "unix:/run/meshlb.sock"

[[listener]]
name = "web"
bind = "127.0.0.1:8080"
protocol = "http"
pool = "app"
trusted_proxies = ["10.0.0.0/8"]
timeouts = {{ head = "10s", idle = "60s", tunnel_idle = "1h" }}
max_head = "32KiB"

[pool.app]
balance = "round-robin"
connect_timeout = "5s"
response_timeout = "60s"

[[pool.app.sticky]]
by = "cookie"
name = "MESHLB"
ttl = "20m"
max_age = "12h"

[pool.app.health]
path = "/healthz"
interval = "2s"
timeout = "1s"
rise = 2
fall = 3

[[pool.app.backend]]
name = "s1"
address = "127.0.0.1:9001"
weight = 1
"""

MINIMAL = """
[[listener]]
name = "web"
bind = "127.0.0.1:8080"
pool = "app"
[[pool.app.backend]]
name = "s1"
address = "backend.internal:9001"
"""


def faults_of(text: str, directory: Path = Path("/nowhere")) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse(text, directory=directory)
    return caught.value.faults


def test_the_contracts_example_becomes_typed_settings() -> None:
    settings = parse(CONTRACT, directory=Path("/etc/meshlb"))
    assert settings.node.data_dir == Path("/etc/meshlb/state")
    assert settings.node.shutdown_timeout_s == 10.0
    assert settings.cluster is not None
    assert settings.cluster.advertise == Address("10.0.0.1", 7946)
    assert settings.cluster.join == (
        Address("127.0.0.1", 7947),
        DnsSeed("meshlb.internal", 7946),
    )
    assert settings.cluster.secrets == (bytes(range(32)),)
    assert settings.admin.bind == UnixPath(Path("/run/meshlb.sock"))
    (listener,) = settings.listeners
    assert listener.timeouts.tunnel_idle_s == 3_600.0
    assert listener.max_head_bytes == 32_768
    assert listener.trusted_proxies == (ipaddress.ip_network("10.0.0.0/8"),)
    pool = settings.pools[PoolName("app")]
    assert pool.sticky[0].by is KeySource.COOKIE
    assert pool.sticky[0].max_age_s == 43_200.0
    assert pool.health.path == "/healthz"
    assert pool.backends[0].address == Address("127.0.0.1", 9001)


def test_what_is_left_out_has_the_contracts_default() -> None:
    settings = parse(MINIMAL, directory=Path("/"))
    assert settings.cluster is None
    assert settings.admin.bind == Address("127.0.0.1", 7900)
    pool = settings.pools[PoolName("app")]
    assert pool.sticky == ()
    assert (pool.health.path, pool.health.rise, pool.health.fall) == (None, 2, 3)
    assert settings.listeners[0].timeouts.idle_s == 60.0
    assert settings.node.data_dir is None
    assert settings.node.name
    sticky = parse(MINIMAL + '[[pool.app.sticky]]\nby = "cookie"', directory=Path("/"))
    rule = sticky.pools[PoolName("app")].sticky[0]
    assert (rule.key_name, rule.ttl_s, rule.max_age_s) == ("MESHLB", 1_200.0, None)


def test_a_cluster_advertises_its_bind_unless_told_otherwise() -> None:
    settings = parse(
        CONTRACT.replace('advertise = "10.0.0.1:7946"', ""), directory=Path("/nowhere")
    )
    assert settings.cluster is not None
    assert settings.cluster.advertise is None


def test_settings_cannot_be_changed() -> None:
    settings = parse(MINIMAL, directory=Path("/"))
    with pytest.raises(pydantic.ValidationError):
        settings.node.workers = 2  # type: ignore[misc]  # that it is refused is the test
    with pytest.raises(TypeError):
        settings.pools[PoolName("x")] = settings.pools[PoolName("app")]  # type: ignore[index]  # likewise


def test_all_faults_of_a_file_are_reported_at_once() -> None:
    text = CONTRACT.replace("lb-1", "lb 1").replace("127.0.0.1:9001", "9001")
    text = text.replace('"20m"', '"20"').replace("rise = 2", "rise = 0")
    text = text.replace('pool = "app"', 'pool = "ap"').replace("fall", "fal")
    faults = faults_of(text)
    assert [fault.partition(":")[0] for fault in faults] == [
        'node.name = "lb 1"',
        'listener[0].pool = "ap"',
        'pool.app.backend[0].address = "9001"',
        "pool.app.health.fal",
        "pool.app.health.rise = 0",
        'pool.app.sticky[0].ttl = "20"',
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("nodes = 3", 'nodes: unknown key; did you mean "node"?'),
        (
            "[node]\nzzz = 1",
            "node.zzz: unknown key; known here: name, data_dir, on_unusable_store, workers",
        ),
        ("[listener]\nname = 'web'", "listener = a table: expected a list of tables, [[listener]]"),
        ("pool = 3", "pool = 3: expected tables with a name, [pool.NAME]"),
        ("[pool]\napp = 3", "pool.app = 3: expected a table, [pool.app]"),
        ("[pool.'a b']", 'pool."a b": expected a name of 1 to 63 characters'),
        ("[node]\nworkers = true", "node.workers = true: expected a whole number from 0 to 256"),
        ("[node]\nshutdown_timeout = 10", "node.shutdown_timeout = 10: expected a duration"),
        ("[cluster]", "cluster.bind: required: an IP address and a port"),
        ("[cluster]\njoin = 'x'", 'cluster.join = "x": expected a list, each an IP address'),
        ("[admin]\nbind = 'unix:x'", 'admin.bind = "unix:x": expected an IP address'),
    ],
)
def test_a_fault_names_the_place_the_value_and_what_is_allowed(text: str, expected: str) -> None:
    assert any(fault.startswith(expected) for fault in faults_of(text)), faults_of(text)


def test_a_syntax_error_names_its_line() -> None:
    assert faults_of("[node]\nname = ") == ["no valid TOML: Invalid value (at end of document)"]
    assert "line 2" in faults_of("a = 1\nb = = 2")[0]


def test_a_secret_never_appears_in_a_fault() -> None:
    secret = "c2VjcmV0LXNlY3JldC1zZWNyZXQ="
    for text in (
        CONTRACT.replace(SECRET, secret),
        CONTRACT.replace(f'["{SECRET}"]', f'"{secret}"'),
        CONTRACT.replace("secrets =", f'secret = "{secret}"\nsecrets ='),
        CONTRACT.replace(f'["{SECRET}"]', f'[["{secret}"]]'),
        CONTRACT.replace("[cluster]", "[[cluster]]").replace(SECRET, secret),
    ):
        faults = faults_of(text)
        assert faults
        assert secret not in "\n".join(faults)


def test_secrets_do_not_show_when_settings_are_printed() -> None:
    settings = parse(CONTRACT, directory=Path("/nowhere"))
    assert "secrets=" not in repr(settings)
    assert str(bytes(range(32))) not in repr(settings)


def test_secrets_can_come_from_a_file_beside_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "secrets").write_text(f"# the cluster's\n\n{SECRET}\n")
    config = tmp_path / "node.toml"
    config.write_text(CONTRACT.replace(f'secrets = ["{SECRET}"]', 'secrets_file = "secrets"'))
    settings = load(config)
    assert settings.cluster is not None
    assert settings.cluster.secrets == (bytes(range(32)),)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, "No such file or directory"),
        ("", "has 0 secrets"),
        (f"{SECRET}\nnonsense-nonsense\n", "line 2: expected the base64 of 32 bytes"),
        ("\n".join([SECRET] * 9), "has 9 secrets"),
    ],
)
def test_a_bad_secrets_file_is_a_fault_without_its_content(
    tmp_path: Path, content: str | None, expected: str
) -> None:
    if content is not None:
        (tmp_path / "secrets").write_text(content)
    text = CONTRACT.replace(f'secrets = ["{SECRET}"]', 'secrets_file = "secrets"')
    (fault,) = faults_of(text, tmp_path)
    assert fault.startswith("cluster.secrets_file: ")
    assert expected in fault
    assert "nonsense" not in fault


def test_a_token_is_one_word(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text(" abc \n")
    assert read_token(path) == "abc"
    for content in ("", "two words", "é"):
        path.write_text(content)
        with pytest.raises(ValueError, match="expected one token"):
            read_token(path)


def test_a_file_that_is_no_configuration_is_one_fault(tmp_path: Path) -> None:
    binary = tmp_path / "binary"
    binary.write_bytes(b"name = \xff")
    huge = tmp_path / "huge"
    with huge.open("wb") as file:
        file.truncate(FILE_BYTES_MAX + 1)
    for path, expected in ((binary, "no UTF-8"), (huge, "larger than"), (tmp_path, "directory")):
        with pytest.raises(ConfigError, match=expected) as caught:
            load(path)
        assert len(caught.value.faults) == 1
