"""How two configurations differ, in words, and what of it a running node refuses."""

from pathlib import Path

from meshlb.config.changes import differences
from meshlb.config.loader import parse
from meshlb.config.schema import Settings

SECRET = "QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE="
OTHER = "QkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkI="

FILE = f"""
[node]
name = "lb-1"
[cluster]
name = "shop"
bind = "127.0.0.1:7946"
secrets = ["{SECRET}"]
[[listener]]
name = "web"
bind = "127.0.0.1:8080"
pool = "app"
[pool.app]
sticky = [{{ by = "cookie" }}]
[[pool.app.backend]]
name = "s1"
address = "127.0.0.1:9001"
[[pool.app.backend]]
name = "s2"
address = "127.0.0.1:9002"
"""


def settings(*changes: tuple[str, str], more: str = "") -> Settings:
    text = FILE
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return parse(text + more, directory=Path("/nowhere"))


def told(*changes: tuple[str, str], more: str = "") -> list[str]:
    return [str(found) for found in differences(settings(), settings(*changes, more=more))]


def refused(*changes: tuple[str, str], more: str = "") -> list[str]:
    found = differences(settings(), settings(*changes, more=more))
    return [str(each) for each in found if each.needs_restart]


def test_equal_files_have_no_differences() -> None:
    assert told() == []


def test_each_difference_is_named_with_both_values() -> None:
    assert told(
        ('pool = "app"', 'pool = "app"\ntimeouts = { idle = "90s" }\nmax_head = "64KiB"'),
        ("127.0.0.1:9002", "127.0.0.1:9003"),
        ('name = "s1"', 'name = "s1"\nweight = 5'),
        ("[pool.app]", '[pool.app]\nconnect_timeout = "1500ms"'),
    ) == [
        "listener.web.timeouts.idle: 60s → 90s",
        "listener.web.max_head: 32768B → 65536B",
        "pool.app.connect_timeout: 5s → 1.5s",
        "pool.app.backend.s1.weight: 1 → 5",
        "pool.app.backend.s2.address: 127.0.0.1:9002 → 127.0.0.1:9003",
    ]


def test_tables_come_and_go_by_their_names() -> None:
    assert told(
        ('name = "s1"', 'name = "s3"'),
        more='[[listener]]\nname = "two"\nbind = "127.0.0.1:8081"\npool = "app"\n',
    ) == [
        "listener.two: added",
        "pool.app.backend.s1: removed",
        "pool.app.backend.s3: added",
    ]


def test_the_order_of_backends_counts() -> None:
    swapped = told(('name = "s1"', 'name = "x"'), ('name = "s2"', 'name = "s1"'),
                   ('name = "x"', 'name = "s2"'), ("9001", "9"), ("9002", "9001"),
                   ('127.0.0.1:9"', '127.0.0.1:9002"'))  # fmt: skip
    assert swapped == ["pool.app.backend: in another order"]


def test_lists_are_shown_as_they_are_and_rules_by_their_source() -> None:
    assert told(
        ('pool = "app"', 'pool = "app"\ntrusted_proxies = ["10.0.0.0/8"]'),
        ('{ by = "cookie" }', '{ by = "cookie" }, { by = "source-ip" }'),
    ) == [
        "listener.web.trusted_proxies: [] → [10.0.0.0/8]",
        "pool.app.sticky: [cookie] → [cookie, source-ip]",
    ]


def test_a_secret_is_never_shown() -> None:
    (told_of,) = told((SECRET, OTHER))
    assert told_of == "cluster.secrets: changed"


def test_what_serves_clients_and_the_secrets_and_the_seeds_can_change() -> None:
    assert refused(
        ('secrets = ["', f'join = ["127.0.0.1:1"]\nsecrets = ["{OTHER}", "'),
        ('name = "web"', 'name = "www"'),
        ('name = "lb-1"', 'name = "lb-1"\nshutdown_timeout = "1m"'),
        ("pool.app", "pool.other"),
        ('pool = "app"', 'pool = "other"'),
    ) == []  # fmt: skip


def test_what_a_node_is_needs_a_restart() -> None:
    assert refused(
        ('name = "lb-1"', 'name = "lb-2"\ndata_dir = "/there"'),
        ('name = "shop"', 'name = "shop"\nmode = "strict"\nprofile = "wan"'),
        more='[admin]\nbind = "127.0.0.1:7999"\n',
    ) == [
        "node.name: lb-1 → lb-2",
        "node.data_dir: nothing → /there",
        "cluster.mode: available → strict",
        "cluster.profile: lan → wan",
        "admin.bind: 127.0.0.1:7900 → 127.0.0.1:7999",
    ]


def test_a_cluster_comes_and_goes_with_a_restart_only() -> None:
    with_cluster = settings()
    start, end = FILE.index("[cluster]"), FILE.index("[[listener]]")
    alone = parse(FILE[:start] + FILE[end:], directory=Path("/nowhere"))
    for old, new, word in ((with_cluster, alone, "removed"), (alone, with_cluster, "added")):
        (found,) = differences(old, new)
        assert (str(found), found.needs_restart) == (f"cluster: {word}", True)
        assert found.needs_another_node


def test_an_upgrade_can_change_all_but_who_the_node_is() -> None:
    for change, is_another in (
        (('name = "lb-1"', 'name = "lb-9"'), True),
        (('name = "lb-1"', 'name = "lb-1"\ndata_dir = "/there"'), True),
        (('name = "lb-1"', 'name = "lb-1"\nworkers = 3'), False),
    ):
        (found,) = differences(settings(), settings(change))
        assert found.needs_another_node == is_another, found
