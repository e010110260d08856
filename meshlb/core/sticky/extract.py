"""Where a session key comes from: a rule of the configuration, applied to a request.

Owns reading the raw value and hashing it. The raw value never leaves the node: what is stored and
sent is `hash_key` of it. The load-balancer cookie carries a key of its own and is not read here
(see `cookie`), but it is told apart by the same `KeyRule`.

Spec: protocol/spec/pins.md.
"""

import hashlib
import re
from dataclasses import dataclass, field
from functools import lru_cache

from meshlb.core.http.cookies import find_cookie
from meshlb.core.http.request import RequestHead
from meshlb.core.sticky.lifetime import unheard_s
from meshlb.model import SESSION_KEY_BYTES, KeySource, PoolName, SessionKey

HASH_PURPOSE = b"meshlb-key"
"""Keeps this use of the cluster's secret apart from all others (BLAKE2b's `person`)."""

HASHES_BEGUN_MAX = 256
"""Rules whose hash is remembered as it is before the value."""


@dataclass(frozen=True, slots=True)
class KeyRule:
    """One way to know a client again; a `sticky` table of the configuration."""

    by: KeySource
    name: str
    """Of the cookie, header or parameter; empty for `source-ip`."""
    ttl_s: float
    """Idle lifetime of a pin."""
    max_age_s: float | None = None
    """Lifetime of a pin, whatever its use; None for no such bound."""
    token: bytes = field(init=False, repr=False, compare=False)
    """`name` as bytes, as it is looked for: lower-case for a header."""
    quiet_s: float = field(init=False, repr=False, compare=False)
    """A pin that would live for longer than this need not be touched."""
    pattern: re.Pattern[bytes] | None = field(init=False, repr=False, compare=False)
    """Finds a query or path parameter in a target, from its start, in time linear in its length."""

    def __post_init__(self) -> None:
        token = self.name.encode()
        pattern = None
        if self.by is KeySource.HEADER:
            token = token.lower()
        elif self.by is KeySource.QUERY:
            pattern = re.compile(rb"[^?]*+\?(?:[^&]*+&)*?" + re.escape(token) + rb"=([^&]+)")
        elif self.by is KeySource.PATH:
            pattern = re.compile(rb"[^?]*?;" + re.escape(token) + rb"=([^;/?]+)")
        object.__setattr__(self, "token", token)
        object.__setattr__(self, "quiet_s", self.ttl_s - unheard_s(self.ttl_s))
        object.__setattr__(self, "pattern", pattern)


def extract(rule: KeyRule, request: RequestHead | None, client: bytes) -> bytes | None:
    """The raw session key that `rule` finds, exactly as the client sent it.

    Args:
        rule: what to look for.
        request: the head; None for a plain TCP connection, which has only an address.
        client: the client's address as text.

    Returns:
        The value; None where there is none, or an empty one.
    """
    by = rule.by
    if by is KeySource.SOURCE_IP:
        return client or None
    if request is None:
        return None
    if by is KeySource.HEADER:
        return request.field(rule.token) or None
    if by is KeySource.APP_COOKIE:
        return find_cookie(request.cookies, rule.token) or None
    if rule.pattern is None:
        return None
    found = rule.pattern.match(request.target)
    return found[1] if found else None


def hash_key(secret: bytes, pool: PoolName, by: KeySource, name: str, value: bytes) -> SessionKey:
    """The session key of a raw value: a keyed BLAKE2b hash that nobody can reverse or guess.

    Args:
        secret: at most 64 bytes; the same on all nodes.
        pool: pools do not share keys.
        by: nor do sources,
        name: nor names.
        value: what `extract` found.
    """
    digest = _begun(secret, pool, by, name).copy()
    digest.update(value)
    return SessionKey(digest.digest())


@lru_cache(HASHES_BEGUN_MAX)
def _begun(secret: bytes, pool: PoolName, by: KeySource, name: str) -> "hashlib.blake2b":
    """The hash up to the value: a copy of it costs a third of what it takes to begin anew."""
    digest = hashlib.blake2b(digest_size=SESSION_KEY_BYTES, key=secret, person=HASH_PURPOSE)
    if by is KeySource.HEADER:
        name = name.lower()
    for part in (pool.encode(), by.encode(), name.encode()):
        digest.update(len(part).to_bytes(2) + part)
    return digest
