from pathlib import Path

import pytest

from meshlb.config import parse
from tests.unit.config.test_loader import CONTRACT, MINIMAL, SECRET, faults_of

UDP = MINIMAL.replace("bind", 'protocol = "udp"\nbind').replace(
    "[[pool.app.backend]]", '[pool.app]\nhealth = { protocol = "udp" }\n[[pool.app.backend]]'
)
UDP_TOO = '[[listener]]\nname = "too"\nbind = "127.0.0.1:8080"\npool = "app"\n'

REFUSED = {
    "a pool without backends": (
        MINIMAL + "[pool.empty]\n",
        "pool.empty: has no backend; it needs at least one [[pool.empty.backend]]",
    ),
    "max_age below ttl": (
        CONTRACT.replace('"12h"', '"19m"'),
        'pool.app.sticky[0].max_age = "19m": expected at least `ttl`, which is 20m',
    ),
    "max_age below the default ttl": (
        CONTRACT.replace('"12h"', '"19m"').replace('ttl = "20m"', ""),
        'pool.app.sticky[0].max_age = "19m": expected at least `ttl`, which is 20m, the default',
    ),
    "two backends of one name": (
        MINIMAL + '[[pool.app.backend]]\nname = "s1"\naddress = "127.0.0.1:9002"\n',
        'pool.app.backend[1].name = "s1": pool.app.backend[0] has that name already',
    ),
    "two listeners of one name": (
        MINIMAL + '[[listener]]\nname = "web"\nbind = "127.0.0.1:8081"\npool = "app"\n',
        'listener[1].name = "web": listener[0] has that name already',
    ),
    "two listeners on one address": (
        MINIMAL + '[[listener]]\nname = "b"\nbind = "0.0.0.0:8080"\npool = "app"\n',
        'listener[1].bind = "0.0.0.0:8080": listener[0].bind is bound to "127.0.0.1:8080" already',
    ),
    "a listener on the default admin address": (
        MINIMAL.replace("8080", "7900"),
        'listener[0].bind = "127.0.0.1:7900": admin.bind is bound to "127.0.0.1:7900" already',
    ),
    "a listener's unknown pool": (
        MINIMAL.replace('pool = "app"', 'pool = "apq"'),
        'listener[0].pool = "apq": there is no such pool; did you mean "app"?',
    ),
    "no secrets": (
        CONTRACT.replace(f'secrets = ["{SECRET}"]', ""),
        "cluster.secrets: required, or `secrets_file`: the members trust each other by a secret; "
        "`meshlb keygen` makes one",
    ),
    "an empty list of secrets": (
        CONTRACT.replace(f'["{SECRET}"]', "[]"),
        "cluster.secrets: required, or `secrets_file`: the members trust each other by a secret; "
        "`meshlb keygen` makes one",
    ),
    "secrets and secrets_file": (
        CONTRACT.replace("secrets =", 'secrets_file = "x"\nsecrets ='),
        "cluster: has both `secrets` and `secrets_file`; expected one of them",
    ),
    "too many secrets": (
        CONTRACT.replace(f'["{SECRET}"]', str([SECRET] * 9)),
        "cluster.secrets: has too many; expected at most 8",
    ),
    "a wildcard that is not advertised": (
        CONTRACT.replace('"127.0.0.1:7946"', '"0.0.0.0:7946"').replace("advertise", "#"),
        'cluster.advertise: required, for `bind` = "0.0.0.0:7946" is a wildcard',
    ),
    "a wildcard that is advertised": (
        CONTRACT.replace('"10.0.0.1:7946"', '"[::]:7946"'),
        'cluster.advertise = "[::]:7946": expected an address that members can reach',
    ),
    "an open admin API": (
        MINIMAL + '[admin]\nbind = "10.0.0.1:7900"\n',
        'admin.token_file: required, for `bind` = "10.0.0.1:7900" is neither loopback nor a Unix '
        "socket",
    ),
    "a header without a name": (
        MINIMAL + '[[pool.app.sticky]]\nby = "header"\n',
        "pool.app.sticky[0].name: required where `by` is header: the name to look for",
    ),
    "an address with a name": (
        MINIMAL + '[[pool.app.sticky]]\nby = "source-ip"\nname = "x"\n',
        "pool.app.sticky[0].name: an address has no name; leave it out",
    ),
    "a header that can be none": (
        MINIMAL + '[[pool.app.sticky]]\nby = "header"\nname = "a:b"\n',
        'pool.app.sticky[0].name = "a:b": expected a token of letters, digits and !#$%&\'*+-.^_`|~',
    ),
    "a rule twice": (
        MINIMAL + '[[pool.app.sticky]]\nby = "cookie"\n' * 2,
        "pool.app.sticky[1]: is never reached, for pool.app.sticky[0] has its `by` and `name`",
    ),
    "a UDP listener that expects a PROXY header": (
        UDP.replace("bind", "proxy_protocol = true\nbind"),
        "listener[0].proxy_protocol: a UDP listener has none; leave it out",
    ),
    "a UDP listener whose backends are probed by TCP": (
        UDP.replace('health = { protocol = "udp" }', ""),
        'pool.app.health.protocol: expected "udp", or a `path`, for listener[0] speaks UDP: a TCP '
        "connect tells nothing of its backends",
    ),
    "two UDP listeners on one address": (
        UDP + UDP_TOO + 'protocol = "udp"\n',
        'listener[1].bind = "127.0.0.1:8080": '
        'listener[0].bind is bound to "127.0.0.1:8080" already',
    ),
    "nothing to do": (
        "",
        "listener: there is none, and no [cluster]; a node needs at least one [[listener]]",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_options_that_contradict_each_other_are_one_fault(name: str) -> None:
    text, expected = REFUSED[name]
    assert faults_of(text) == [expected]


@pytest.mark.parametrize("bind", ["127.0.0.1:1", "127.8.8.8:1", "[::1]:1", "unix:/run/meshlb.sock"])
def test_an_admin_api_that_strangers_cannot_reach_needs_no_token(bind: str) -> None:
    parse(f'{MINIMAL}[admin]\nbind = "{bind}"\n', directory=Path("/"))


def test_tcp_and_udp_have_ports_of_their_own() -> None:
    parse(UDP + UDP_TOO, directory=Path("/"))


def test_wildcards_of_the_two_families_do_not_collide() -> None:
    second = '[[listener]]\nname = "b"\nbind = "[::]:8080"\npool = "app"\n'
    parse(MINIMAL.replace("127.0.0.1:8080", "0.0.0.0:8080") + second, directory=Path("/"))


def test_a_node_without_listeners_may_be_a_member() -> None:
    cluster_only = CONTRACT[: CONTRACT.index("[[listener]]")]
    assert parse(cluster_only, directory=Path("/nowhere")).listeners == ()
