"""The admin API: paths, parameters and JSON around a `NodeView`.

Owns the outer form only; every answer's content is the view's. It must not know how it is served
(see `serve`) nor who may ask (see `guard`). Contract: "Admin API".
"""

import base64
import dataclasses
import json
import re
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from importlib.resources import files
from typing import Any, Final

import structlog
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from meshlb.admin.guard import error_response
from meshlb.admin.metrics import make_registry
from meshlb.admin.node_view import NodeView
from meshlb.admin.view import AdminError, unknown_backend, unknown_pool
from meshlb.model import (
    CLUSTER_SECRET_BYTES,
    KEY_ID_BYTES,
    BackendName,
    BackendState,
    ClusterSecret,
    KeyId,
    PoolName,
)

PINS_LIMIT_DEFAULT: Final = 100
PINS_LIMIT_MAX: Final = 1_000
KEY_CHARACTERS_MAX: Final = 4_096
BODY_BYTES_MAX: Final = 4_096

SETTABLE_STATES: Final = (BackendState.UP, BackendState.DRAINING, BackendState.MAINTENANCE)
"""`down` is what probes find; nobody can order it."""

KEY_ID: Final = re.compile(rf"[0-9a-f]{{{2 * KEY_ID_BYTES}}}")

CODES: Final = {404: "not_found", 405: "method_not_allowed"}

DASHBOARD_POLICY: Final = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)

log = structlog.get_logger(__name__)

Handler = Callable[[NodeView, Request], Awaitable[Response]]


def build_app(node: NodeView) -> Starlette:
    """The API of `node` as an ASGI application."""
    registry = make_registry(node.meters)

    async def metrics(node: NodeView, request: Request) -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    def route(path: str, handler: Handler, *methods: str) -> Route:
        async def endpoint(request: Request) -> Response:
            return await handler(node, request)

        return Route(path, endpoint, methods=list(methods) or ["GET"], name=handler.__name__)

    return Starlette(
        routes=[
            route("/", _dashboard),
            route("/healthz", _healthz),
            route("/readyz", _readyz),
            route("/metrics", metrics),
            route("/v1/status", _status),
            route("/v1/members", _members),
            route("/v1/members/{member}", _member, "DELETE"),
            route("/v1/heals", _heals),
            route("/v1/pools", _pools),
            route("/v1/pins", _pins, "GET", "DELETE"),
            route("/v1/explain", _explain),
            route("/v1/pools/{pool}/backends/{backend}/state", _set_state, "PUT"),
            route("/v1/keys", _keys, "GET", "POST"),
            route("/v1/keys/{key}", _key, "PUT", "DELETE"),
            route("/v1/reload", _reload, "POST"),
            route("/v1/upgrade", _upgrade, "POST"),
            route("/v1/leave", _leave, "POST"),
        ],
        exception_handlers={
            AdminError: _on_admin_error,
            HTTPException: _on_http_error,
            Exception: _on_our_error,
        },
    )


async def _dashboard(node: NodeView, request: Request) -> Response:
    page = files("meshlb.admin").joinpath("dashboard.html").read_text(encoding="utf-8")
    headers = {"Content-Security-Policy": DASHBOARD_POLICY, "X-Content-Type-Options": "nosniff"}
    return HTMLResponse(page, headers=headers)


async def _healthz(node: NodeView, request: Request) -> Response:
    return _json({"status": "ok"})


async def _readyz(node: NodeView, request: Request) -> Response:
    ready, reason = node.ready()
    return _json({"status": "ready"}) if ready else error_response(503, "not_ready", reason)


async def _status(node: NodeView, request: Request) -> Response:
    return _json(node.status())


async def _members(node: NodeView, request: Request) -> Response:
    return _json({"members": node.members()})


async def _member(node: NodeView, request: Request) -> Response:
    member = request.path_params["member"]
    await node.forget(member)
    return _json({"forgotten": member})


async def _heals(node: NodeView, request: Request) -> Response:
    return _json({"heals": node.heals()})


async def _pools(node: NodeView, request: Request) -> Response:
    return _json({"pools": node.pools()})


async def _pins(node: NodeView, request: Request) -> Response:
    if request.method == "DELETE":
        return await _unpin(node, request)
    given = request.query_params
    pool, backend = given.get("pool"), given.get("backend")
    if backend is not None and pool is None:
        raise _bad_request("`backend` needs the `pool` that it is of")
    text = given.get("limit", str(PINS_LIMIT_DEFAULT))
    if not text.isascii() or not text.isdigit() or not 1 <= int(text[:9]) <= PINS_LIMIT_MAX:
        raise _bad_request(f"`limit` is a number from 1 to {PINS_LIMIT_MAX}")
    if pool is not None:
        _check(node, pool, backend)
    pins = await node.pins(
        None if pool is None else PoolName(pool),
        None if backend is None else BackendName(backend),
        int(text),
    )
    return _json({"pins": pins})


async def _unpin(node: NodeView, request: Request) -> Response:
    pool, key = _pool_and_key(node, request)
    if not await node.unpin(pool, key):
        raise _no_pin(pool)
    return _json({"unpinned": True})


async def _explain(node: NodeView, request: Request) -> Response:
    pool, key = _pool_and_key(node, request)
    explanation = node.explain(pool, key)
    if explanation is None:
        raise _no_pin(pool)
    return _json(explanation)


async def _set_state(node: NodeView, request: Request) -> Response:
    pool, backend = request.path_params["pool"], request.path_params["backend"]
    _check(node, pool, backend)
    wanted = (await _body(request)).get("state")
    if wanted not in SETTABLE_STATES:
        words = ", ".join(f'"{state}"' for state in SETTABLE_STATES)
        raise _bad_request(f"`state` is one of {words}")
    state = BackendState(wanted)
    receipt = await node.set_backend_state(PoolName(pool), BackendName(backend), state)
    order = {"pool": pool, "backend": backend, "state": state}
    return _json({**order, **dataclasses.asdict(receipt)})


async def _keys(node: NodeView, request: Request) -> Response:
    if request.method == "POST":
        return _json(await node.install_key(_secret((await _body(request)).get("secret"))))
    return _json({"keys": node.keys()})


async def _key(node: NodeView, request: Request) -> Response:
    key_id = _key_id(request.path_params["key"])
    if request.method == "DELETE":
        force = request.query_params.get("force", "false")
        if force not in ("true", "false"):
            raise _bad_request("`force` is `true` or `false`")
        return _json(await node.remove_key(key_id, force=force == "true"))
    body = await _body(request)
    if body.get("use") is not True or not isinstance(body.get("force", False), bool):
        raise _bad_request('the body is {"use": true}, perhaps with "force": true')
    return _json(await node.use_key(key_id, force=body.get("force", False)))


def _key_id(text: str) -> KeyId:
    if KEY_ID.fullmatch(text) is None:
        raise _bad_request(f"a key is named by {2 * KEY_ID_BYTES} hexadecimal digits")
    return KeyId(bytes.fromhex(text))


def _secret(text: object) -> ClusterSecret:
    """The secret that a request carries. The error says nothing of `text`."""
    try:
        secret = base64.b64decode(text, validate=True) if isinstance(text, str) else b""
    except ValueError:
        secret = b""
    if len(secret) != CLUSTER_SECRET_BYTES:
        raise _bad_request(f"`secret` is the base64 of {CLUSTER_SECRET_BYTES} bytes")
    return ClusterSecret(secret)


async def _reload(node: NodeView, request: Request) -> Response:
    return _json(await node.reload())


async def _upgrade(node: NodeView, request: Request) -> Response:
    return _json(await node.upgrade(), status=202)


async def _leave(node: NodeView, request: Request) -> Response:
    await node.leave()
    return _json({"leaving": True}, status=202)


async def _body(request: Request) -> dict[str, Any]:
    """The JSON object that a request carries."""
    content = b""
    try:
        async with aclosing(request.stream()) as chunks:
            async for chunk in chunks:
                content += chunk
                if len(content) > BODY_BYTES_MAX:
                    raise AdminError(413, "too_large", f"at most {BODY_BYTES_MAX} bytes")
        body = json.loads(content)
    except ClientDisconnect:
        raise _bad_request("the body is incomplete") from None
    except (ValueError, RecursionError):
        raise _bad_request("the body is no JSON") from None
    if not isinstance(body, dict):
        raise _bad_request("the body is no JSON object")
    return body


def _pool_and_key(node: NodeView, request: Request) -> tuple[PoolName, str]:
    pool, key = request.query_params.get("pool"), request.query_params.get("key")
    if not pool or not key:
        raise _bad_request("`pool` and `key` are required")
    if len(key) > KEY_CHARACTERS_MAX:
        raise _bad_request(f"`key` has at most {KEY_CHARACTERS_MAX} characters")
    _check(node, pool, None)
    return PoolName(pool), key


def _check(node: NodeView, pool: str, backend: str | None) -> None:
    """Whether there is such a pool, and such a backend in it."""
    known = next((known for known in node.pools() if known.name == pool), None)
    if known is None:
        raise unknown_pool(pool)
    if backend is not None and all(other.name != backend for other in known.backends):
        raise unknown_backend(pool, backend)


def _bad_request(message: str) -> AdminError:
    return AdminError(400, "bad_request", message)


def _no_pin(pool: str) -> AdminError:
    return AdminError(404, "no_pin", f"the key has no pin in the pool {pool!r} on this node")


def _json(answer: Any, *, status: int = 200) -> JSONResponse:
    return JSONResponse(_plain(answer), status_code=status, headers={"Cache-Control": "no-store"})


def _plain(value: Any) -> Any:
    """Views as the dicts and lists that JSON knows."""
    if dataclasses.is_dataclass(value):
        named = dataclasses.fields(value)
        return {field.name: _plain(getattr(value, field.name)) for field in named}
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value


async def _on_admin_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, AdminError)
    return error_response(error.status, error.code, str(error), faults=error.faults)


async def _on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = CODES.get(error.status_code, "error")
    headers = dict(error.headers or {})
    return error_response(error.status_code, code, error.detail.lower(), headers)


async def _on_our_error(request: Request, error: Exception) -> Response:
    log.error("admin request failed", path=request.url.path, exc_info=error)
    return error_response(500, "internal", "meshlb failed to answer; its log says more")
