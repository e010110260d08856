"""Which links are replaced when, and which are cut; links and dials are recorded, not made."""

from dataclasses import dataclass, field

from meshlb.cluster.keys import ClusterKeys
from meshlb.cluster.renewal import REMOVED_S_MAX, RENEW_S, Renewal
from meshlb.model import ClusterSecret, KeyId, NodeName
from meshlb.store.keyring import KeyringFile
from meshlb.wire.seal import cluster_label, key_id_of

OLD, NEW = ClusterSecret(b"o" * 32), ClusterSecret(b"n" * 32)
OLD_ID, NEW_ID = key_id_of(OLD), key_id_of(NEW)
B = NodeName("b")


@dataclass(eq=False)
class OpenLink:
    name: NodeName
    key_id: KeyId = OLD_ID
    close_reason: str = ""

    def close(self, reason: str) -> None:
        self.close_reason = reason


@dataclass
class OpenLinks:
    """What `Renewal` asks of `meshlb.cluster.links.Links`."""

    open: list[OpenLink]
    renewed: list[str] = field(default_factory=list)

    def all(self) -> list[OpenLink]:
        return [link for link in self.open if not link.close_reason]

    def renew(self, link: OpenLink) -> None:
        self.renewed.append(link.name)


def rig(*names: str, me: str = "b") -> tuple[Renewal, ClusterKeys, OpenLinks]:
    """A member that seals with the new secret, as its peers say they do."""
    keys = ClusterKeys(
        NodeName(me),
        (OLD, NEW),
        file=KeyringFile(None, cluster_label("shop")),
        wall_ms=lambda: 1,
    )
    keys.use(NEW_ID, live=[NodeName(me)], force=False)
    for name in names:
        keys.hear(NodeName(name), keys.state())
    links = OpenLinks([OpenLink(NodeName(name)) for name in names])
    return Renewal(NodeName(me), keys), keys, links


def step(renewal: Renewal, links: OpenLinks, now: float) -> None:
    renewal.step(links, now)  # type: ignore[arg-type]  # it asks for no more than this


def test_links_under_an_older_secret_are_replaced_one_by_one_by_the_lower_name() -> None:
    renewal, _, links = rig("a", "c", "d")
    for now in (0.0, RENEW_S / 2, RENEW_S, 2 * RENEW_S):
        step(renewal, links, now)
    assert len(links.renewed) == 3
    assert set(links.renewed) == {"c", "d"}
    assert not any(link.close_reason for link in links.open)


def test_a_link_under_the_secret_in_use_is_left_alone() -> None:
    renewal, _, links = rig("c")
    links.open[0].key_id = NEW_ID
    step(renewal, links, 0.0)
    assert links.renewed == []


def test_a_peer_that_seals_with_another_secret_is_waited_for() -> None:
    renewal, keys, links = rig("c")
    behind = ClusterKeys(
        NodeName("c"), (OLD, NEW), file=KeyringFile(None, cluster_label("shop")), wall_ms=lambda: 1
    )
    keys.hear(NodeName("c"), behind.state())
    step(renewal, links, 0.0)
    assert links.renewed == []


def test_links_under_a_removed_secret_are_replaced_at_once_and_cut_in_the_end() -> None:
    renewal, keys, links = rig("a", "c", "d")
    keys.remove(OLD_ID, members=[B], force=False)
    step(renewal, links, 1.0)
    assert sorted(links.renewed) == ["c", "d"]
    links.open[1].key_id = NEW_ID
    step(renewal, links, 1.0 + REMOVED_S_MAX)
    assert {link.name: link.close_reason for link in links.open} == {
        "a": "key-removed",
        "c": "",
        "d": "key-removed",
    }
