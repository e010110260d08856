"""Other seeds, secrets and certificates while a member runs."""

from dataclasses import replace
from pathlib import Path

from meshlb.model import ClusterSecret
from meshlb.net.mutual_tls import MutualTls
from meshlb.wire.seal import key_id_of
from tests.fakes.certificates import Authority, Files
from tests.runtime.cluster.kit import SECRET, Node, cluster, until

NEW = ClusterSecret(b"n" * 32)


def tls(files: Files, authority: Authority) -> MutualTls:
    return MutualTls.load(cert=files.cert, key=files.key, ca=authority.ca, verify_names=True)


async def test_a_member_that_is_given_a_seed_finds_the_others() -> None:
    async with cluster("a", "b") as (nodes, nursery):
        lost = Node("c")
        await nursery.start(lost.run)
        await until(lambda: lost.sees_alive("c"))
        lost.mesh.use(replace(lost.options, join=(nodes[0].address,)))
        await until(lambda: all(node.sees_alive("a", "b", "c") for node in [*nodes, lost]))


async def test_secrets_rotate_by_the_configuration_of_each_member_and_all_stay_alive() -> None:
    async with cluster("a", "b", "c") as (nodes, _):
        for secrets in ((SECRET, NEW), (NEW, SECRET), (NEW,)):
            ids = tuple(map(key_id_of, secrets))
            for node in nodes:
                node.mesh.use(replace(node.options, secrets=secrets))
            await until(
                lambda ids=ids: all(
                    (report := node.keys.report(other.mesh.name)) is not None and report.held == ids
                    for node in nodes
                    for other in nodes
                )
            )
            await until(lambda: all(node.sees_alive("a", "b", "c") for node in nodes))


async def test_streams_begin_under_the_new_certificates_once_all_members_have_them(
    tmp_path: Path,
) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "new").mkdir()
    old, new = Authority(tmp_path / "old"), Authority(tmp_path / "new")
    a = Node("a", tls=tls(old.sign("a"), old))
    b = Node("b", tls=tls(old.sign("b"), old), join=[a.address])
    async with cluster("alone") as (_, nursery):
        for node in (a, b):
            await nursery.start(node.run)
        await until(lambda: all(node.sees_alive("a", "b") for node in (a, b)))
        for node in (a, b):
            certificates = tls(new.sign(node.mesh.name), new)
            node.mesh.use(replace(node.options, join=(a.address,), tls=certificates))
        await until(lambda: all(node.sees_alive("a", "b") for node in (a, b)))
        late = Node("c", tls=tls(new.sign("c"), new), join=[a.address])
        await nursery.start(late.run)
        await until(lambda: all(node.sees_alive("a", "b", "c") for node in (a, b, late)))
