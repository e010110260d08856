"""Tries in memory whether a session that began under one context is resumed under another one.

Sharing tickets rests on what Python does not promise (see `openssl`), so it is tried before it is
relied on. No socket is opened.
"""

import ssl
from typing import Final

_ROUNDS_MAX: Final = 10


def resumes_at(begin: ssl.SSLContext, resume: ssl.SSLContext) -> bool:
    """Whether a client of `begin` is known again by `resume`; both are a server's."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_mode = ssl.CERT_NONE
    try:
        first = connect(client, begin)
        return bool(connect(client, resume, first.session).session_reused)
    except ssl.SSLError:
        return False


def connect(
    client: ssl.SSLContext, server: ssl.SSLContext, session: ssl.SSLSession | None = None
) -> ssl.SSLObject:
    """Shake hands; returns the client's side once it has its ticket.

    Raises:
        ssl.SSLError: they do not come to terms.
    """
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    near = client.wrap_bio(back, there, session=session)
    far = server.wrap_bio(there, back, server_side=True)
    near_done = far_done = False
    for _ in range(_ROUNDS_MAX):
        near_done = near_done or _step(near)
        far_done = far_done or _step(far)
        if near_done and far_done:
            break
    far.write(b"!")
    near.read(1)  # Tickets come before it.
    return near


def _step(side: ssl.SSLObject) -> bool:
    try:
        side.do_handshake()
    except ssl.SSLWantReadError:
        return False
    return True
