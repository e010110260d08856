"""The load-balancer cookie: what it carries, and what does not open."""

import base64
from dataclasses import replace

import pytest

from meshlb.core.sticky import cookie
from meshlb.core.sticky.cookie import COOKIE_BYTES_MAX, CookieSealer, LbCookie, set_cookie_line
from meshlb.model import BackendName, PoolName, SessionKey
from tests.native import of_the_source

OLD, NEW = b"o" * 32, b"n" * 32
NONCE = bytes(12)
CONTENT = LbCookie(
    key=SessionKey(bytes(range(16))),
    backend=BackendName("s1"),
    epoch=3,
    made_at=1_700_000_000,
    refreshed_at=1_700_000_300,
)


def sealer(*secrets: bytes, pool: str = "app", name: str = "MESHLB") -> CookieSealer:
    return CookieSealer(secrets or (NEW,), pool=PoolName(pool), name=name)


def test_what_was_sealed_opens():
    one = sealer()
    value = one.seal(CONTENT, NONCE)
    assert sealer().open(value) == CONTENT
    assert one.open(value) == CONTENT
    assert one.open(value) == CONTENT


def test_the_longest_backend_name_fits():
    content = replace(CONTENT, backend=BackendName("b" * 63), epoch=2**32 - 1)
    value = sealer().seal(content, NONCE)
    assert len(value) <= COOKIE_BYTES_MAX
    assert sealer().open(value) == content


def test_numbers_out_of_range_are_brought_into_it():
    content = replace(CONTENT, epoch=2**40, made_at=-1.5, refreshed_at=1e12)
    opened = sealer().open(sealer().seal(content, NONCE))
    assert opened is not None
    assert (opened.epoch, opened.made_at, opened.refreshed_at) == (2**32 - 1, 0, 2**32 - 1)


def test_a_value_is_fit_for_a_cookie():
    value = sealer().seal(CONTENT, bytes(range(12)))
    assert value.replace(b"-", b"").replace(b"_", b"").isalnum()


def test_a_changed_bit_does_not_open():
    raw = base64.urlsafe_b64decode(sealer().seal(CONTENT, NONCE) + b"=")
    for position in range(len(raw)):
        for bit in (1, 128):
            changed = bytearray(raw)
            changed[position] ^= bit
            assert sealer().open(base64.urlsafe_b64encode(changed).rstrip(b"=")) is None


def test_a_cut_value_does_not_open():
    value = sealer().seal(CONTENT, NONCE)
    for size in range(len(value)):
        assert sealer().open(value[:size]) is None


@pytest.mark.parametrize("value", [b"", b"=", b"a b", b"\xff" * 40, b"A" * 5_000, b"s1"])
def test_a_made_up_value_does_not_open(value):
    assert sealer().open(value) is None


def test_another_pool_or_name_does_not_open_it():
    value = sealer().seal(CONTENT, NONCE)
    assert sealer(pool="other").open(value) is None
    assert sealer(name="OTHER").open(value) is None


class TestRotation:
    def test_an_older_secret_opens_and_says_so(self):
        value = sealer(OLD).seal(CONTENT, NONCE)
        opened = sealer(NEW, OLD).open(value)
        assert opened == replace(CONTENT, sealed_by_older_key=True)

    def test_the_first_secret_seals(self):
        value = sealer(NEW, OLD).seal(replace(CONTENT, sealed_by_older_key=True), NONCE)
        assert sealer(NEW).open(value) == CONTENT
        assert sealer(OLD).open(value) is None

    def test_a_removed_secret_opens_no_more(self):
        assert sealer(NEW).open(sealer(OLD).seal(CONTENT, NONCE)) is None

    def test_secrets_of_one_key_id_are_told_apart(self):
        ids: dict[int, bytes] = {}
        for n in range(400):
            secret = b"%032d" % n
            key_id = cookie._derive(secret, is_older=False).key_id
            if key_id in ids:
                break
            ids[key_id] = secret
        value = sealer(secret).seal(CONTENT, NONCE)
        opened = sealer(ids[key_id], secret).open(value)
        assert opened is not None
        assert opened.sealed_by_older_key

    def test_secrets_change_while_cookies_are_out(self):
        one = sealer(OLD)
        value = one.seal(CONTENT, NONCE)
        assert one.open(value) == CONTENT
        one.use((NEW, OLD))
        assert one.open(value) == replace(CONTENT, sealed_by_older_key=True)
        assert sealer(NEW).open(one.seal(CONTENT, NONCE)) == CONTENT
        one.use((NEW,))
        assert one.open(value) is None

    def test_there_must_be_a_secret(self):
        with pytest.raises(ValueError, match="at least one secret"):
            CookieSealer((), pool=PoolName("app"), name="MESHLB")


@of_the_source
def test_what_is_remembered_is_bounded(monkeypatch):
    monkeypatch.setattr(cookie, "OPENED_MAX", 3)
    one = sealer()
    for n in range(10):
        assert one.open(one.seal(CONTENT, n.to_bytes(12))) == CONTENT
        assert len(one._opened) <= 3
    one.open(b"made up")
    assert b"made up" not in one._opened


def test_the_line_has_the_attributes_of_the_contract():
    line = b"Set-Cookie: MESHLB=abc; Path=/; HttpOnly; SameSite=Lax"
    assert set_cookie_line("MESHLB", b"abc", secure=False) == line + b"\r\n"
    assert set_cookie_line("MESHLB", b"abc", secure=True) == line + b"; Secure\r\n"
