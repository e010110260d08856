"""A running data plane learns of other secrets: cookies are sealed anew, keys are hashed anew."""

from pathlib import Path

from meshlb.core.sticky.cookie import CookieSealer
from meshlb.model import PoolName
from tests.runtime.proxy.rig import COOKIE_SECRET, KEY_SECRET, scripted
from tests.runtime.proxy.test_stickiness import BY_COOKIE, BY_HEADER, sealed, served, with_cookie

NEW = b"n" * 32


async def test_a_cookie_under_an_older_secret_keeps_its_backend_and_is_sealed_anew(
    tmp_path: Path,
) -> None:
    async with scripted(tmp_path, "s1", "s2", sticky=BY_COOKIE) as rig:
        rig.plane.use_secrets(cookie_secrets=(NEW, COOKIE_SECRET), key_secret=KEY_SECRET)
        _, response = await served(rig, "s2", with_cookie(sealed(backend="s2")))
        sealer = CookieSealer([NEW], pool=PoolName("app"), name="MESHLB")
        anew = sealer.open(response.cookie.removeprefix(b"MESHLB="))
        assert anew is not None
        assert anew.backend == "s2"
        # Once the old secret is gone, the new cookie still opens, and is good as it is.
        rig.plane.use_secrets(cookie_secrets=(NEW,), key_secret=KEY_SECRET)
        _, response = await served(rig, "s2", with_cookie(response.cookie))
        assert "set-cookie" not in response


async def test_session_keys_follow_the_hash_key_and_not_the_secrets(tmp_path: Path) -> None:
    async with scripted(tmp_path, "s1", sticky=BY_HEADER) as rig:
        await served(rig, "s1", b"X-Key: alice")
        rig.plane.use_secrets(cookie_secrets=(NEW,), key_secret=KEY_SECRET)
        await served(rig, "s1", b"X-Key: alice")
        assert len(rig.table.pins) == 1
        rig.plane.use_secrets(cookie_secrets=(NEW,), key_secret=NEW)
        await served(rig, "s1", b"X-Key: alice")
        assert len(rig.table.pins) == 2
