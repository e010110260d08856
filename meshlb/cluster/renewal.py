"""Makes links follow the cluster's secrets: a new one in the place of one under an older secret.

Owns the pace and the last moment. While both secrets are held there is no hurry, and links are
replaced one by one. Once a secret is removed, so must be what it let in: such links are replaced
at once, and those that are not by the end of `REMOVED_S_MAX` are cut.

Spec: protocol/spec/keyring.md, K5 and K6.
"""

from typing import Final

from meshlb.cluster.keys import ClusterKeys
from meshlb.cluster.link import Link
from meshlb.cluster.links import Links
from meshlb.model import NodeName

RENEW_S: Final = 0.5
"""Between two links that are replaced without hurry: claims on their way are asked again."""

REMOVED_S_MAX: Final = 5.0
"""How long a link may outlive the secret that authenticated it."""


class Renewal:
    """One per node that has a cluster."""

    def __init__(self, me: NodeName, keys: ClusterKeys) -> None:
        self._me = me
        self._keys = keys
        self._due: dict[Link, float] = {}
        self._next_at = 0.0
        self._turn = 0

    def step(self, links: Links, now: float) -> None:
        """Replace or cut what is due; called a few times a second. `now` is monotonic seconds."""
        keyring = self._keys.keyring
        stale = [link for link in links.all() if link.key_id != keyring.key_ids[0]]
        removed = [link for link in stale if link.key_id not in keyring.key_ids]
        self._due = {link: self._due.get(link, now + REMOVED_S_MAX) for link in removed}
        for link, due in self._due.items():
            if now >= due:
                link.close("key-removed")
            elif self._is_ours(link):
                links.renew(link)
        lasting = [link for link in stale if link not in self._due and self._is_ours(link)]
        if lasting and now >= self._next_at:
            self._next_at = now + RENEW_S
            self._turn += 1
            links.renew(lasting[self._turn % len(lasting)])

    def _is_ours(self, link: Link) -> bool:
        """The lower of two names begins, once both say that they seal with the same secret."""
        report = self._keys.report(link.name)
        agreed = report is not None and report.sealing == self._keys.keyring.key_ids[0]
        return agreed and self._me < link.name
