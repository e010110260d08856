import httpx
import pytest
from starlette.responses import PlainTextResponse

from meshlb.admin.guard import OPEN_PATHS, Guard

TOKEN = "correct-horse"


async def ask(
    *, token: str | None = None, path: str = "/v1/status", **headers: str
) -> httpx.Response:
    app = Guard(PlainTextResponse("let in"), token=token)
    sent = {"host": "127.0.0.1:7900"}
    sent |= {name.replace("_", "-"): value for name, value in headers.items()}
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        return await client.get(path, headers=sent)


@pytest.mark.parametrize(
    "host", ["127.0.0.1:7900", "127.0.0.1", "[::1]:7900", "[::1]", "localhost:7900", "10.1.2.3"]
)
async def test_a_node_named_by_its_address_answers_without_a_token(host: str) -> None:
    assert (await ask(host=host)).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "evil.example:7900", "127.0.0.1.evil.example"])
async def test_a_rebound_name_is_refused_where_no_token_guards(host: str) -> None:
    assert (await ask(host=host)).json()["error"]["code"] == "unknown_host"


async def test_any_name_will_do_where_a_token_proves_who_asks() -> None:
    answer = await ask(token=TOKEN, host="lb-1.internal", authorization=f"Bearer {TOKEN}")
    assert answer.status_code == 200


async def test_a_request_that_another_site_caused_is_refused() -> None:
    for headers in (
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site"},
    ):
        assert (await ask(**headers)).json()["error"]["code"] == "cross_origin"


async def test_the_dashboards_own_requests_pass() -> None:
    answer = await ask(origin="http://127.0.0.1:7900", sec_fetch_site="same-origin")
    assert answer.status_code == 200


@pytest.mark.parametrize(
    "authorization",
    ["", "Bearer", "Bearer wrong", f"Basic {TOKEN}", f"Bearer {TOKEN}x", "Bearer \xe9"],
)
async def test_a_wrong_token_is_refused(authorization: str) -> None:
    app = Guard(PlainTextResponse("let in"), token=TOKEN)
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        answer = await client.get(
            "/v1/status", headers={"authorization": authorization.encode("latin-1")}
        )
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert TOKEN not in answer.text


async def test_what_supervisors_poll_needs_no_token() -> None:
    for path in sorted(OPEN_PATHS):
        assert (await ask(token=TOKEN, path=path)).status_code == 200
    assert (await ask(token=TOKEN, path="/metrics")).status_code == 401
