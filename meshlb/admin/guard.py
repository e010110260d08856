"""Who may talk to the admin API: a token where there is one, and no foreign web page ever.

A browser on the operator's machine can reach loopback too, and will send requests there on behalf
of any page. So a request that another origin caused is refused, and, where no token proves who
asks, one that names this node by anything but an address (a rebound DNS name) as well. Owns these
three rules; it must not know what the API does.
"""

import hmac
import ipaddress
from typing import Final

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

OPEN_PATHS: Final = frozenset({"/healthz", "/readyz", "/"})
"""Need no token: what a supervisor polls, and a page that holds nothing until it is given one."""


def error_response(
    status: int,
    code: str,
    message: str,
    headers: dict[str, str] | None = None,
    *,
    faults: tuple[str, ...] = (),
) -> JSONResponse:
    """The one shape of errors."""
    error = {"code": code, "message": message} | ({"faults": list(faults)} if faults else {})
    return JSONResponse({"error": error}, status_code=status, headers=headers)


class Guard:
    """Wraps an ASGI application; `token` is None where the bind itself keeps strangers out."""

    def __init__(self, app: ASGIApp, *, token: str | None) -> None:
        self._app = app
        self._token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        if scope["type"] == "http":
            refusal = self._refusal(scope["path"], Headers(scope=scope))
            if refusal is not None:
                await refusal(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _refusal(self, path: str, headers: Headers) -> JSONResponse | None:
        if headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            return error_response(403, "cross_origin", "another site caused this request")
        origin = headers.get("origin")
        if origin is not None and origin.partition("://")[2] != headers.get("host"):
            return error_response(403, "cross_origin", "another site caused this request")
        if self._token is None:
            if not _is_address(headers.get("host", "")):
                message = "name this node by its address, or set admin.token_file"
                return error_response(403, "unknown_host", message)
        elif path not in OPEN_PATHS and not self._is_known(headers.get("authorization", "")):
            return error_response(
                401, "unauthorized", "a bearer token is required", {"WWW-Authenticate": "Bearer"}
            )
        return None

    def _is_known(self, authorization: str) -> bool:
        scheme, _, given = authorization.partition(" ")
        expected = (self._token or "").encode()
        is_token = hmac.compare_digest(given.strip().encode("latin-1"), expected)
        return is_token and scheme.lower() == "bearer"


def _is_address(host: str) -> bool:
    """Whether a Host field names an IP address or this machine, so that DNS had no say in it."""
    name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
    name = name.strip("[]")
    if name in ("", "localhost"):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
