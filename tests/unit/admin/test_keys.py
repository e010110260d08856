"""The secrets in the admin API: ids go out, a secret only ever comes in."""

import base64
from collections.abc import AsyncIterator

import httpx
import pytest

from meshlb.admin.api import build_app
from meshlb.wire.seal import key_id_of
from tests.fakes.node import FakeNode

SECRET = b"n" * 32
SECRET_ID = key_id_of(SECRET).hex()


@pytest.fixture
def node() -> FakeNode:
    return FakeNode()


@pytest.fixture
async def client(node: FakeNode) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app=build_app(node), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        yield client


async def test_each_key_is_an_id_and_what_each_member_does_with_it(
    client: httpx.AsyncClient,
) -> None:
    first, second = (await client.get("/v1/keys")).json()["keys"]
    assert first == {
        "id": "00000001",
        "sealing": True,
        "members": {"lb-1": "sealing", "lb-2": "held", "lb-3": "unknown"},
    }
    assert second["sealing"] is False


async def test_a_secret_is_installed_used_and_another_one_removed(
    client: httpx.AsyncClient, node: FakeNode
) -> None:
    text = base64.b64encode(SECRET).decode()
    step = await client.post("/v1/keys", json={"secret": text})
    assert step.json() == {
        "id": SECRET_ID,
        "acknowledged": ["lb-1", "lb-2"],
        "waiting_for": [],
        "away": ["lb-3"],
    }
    assert text not in step.text
    assert (await client.put(f"/v1/keys/{SECRET_ID}", json={"use": True})).status_code == 200
    assert (await client.delete("/v1/keys/00000001")).status_code == 200
    assert node.sealing == SECRET_ID
    assert node.held == ["00000002", SECRET_ID]


async def test_a_refused_step_is_a_conflict_unless_forced(
    client: httpx.AsyncClient, node: FakeNode
) -> None:
    node.reluctant = True
    refused = await client.put("/v1/keys/00000002", json={"use": True})
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "not_installed")
    refused = await client.delete("/v1/keys/00000001")
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "in_use")
    forced = await client.put("/v1/keys/00000002", json={"use": True, "force": True})
    assert forced.status_code == 200
    assert (await client.delete("/v1/keys/00000001?force=true")).status_code == 200


async def test_an_unknown_key_is_not_found(client: httpx.AsyncClient) -> None:
    assert (await client.put("/v1/keys/0000000f", json={"use": True})).status_code == 404
    assert (await client.delete("/v1/keys/0000000f")).status_code == 404


@pytest.mark.parametrize(
    "body", [{}, {"secret": 7}, {"secret": "c2hvcnQ="}, {"secret": "no base64!"}]
)
async def test_what_is_no_secret_is_refused_and_not_repeated(
    client: httpx.AsyncClient, body: dict[str, object]
) -> None:
    response = await client.post("/v1/keys", json=body)
    assert response.status_code == 400
    for text in body.values():
        assert str(text) not in response.text


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PUT", "/v1/keys/xyz", {"use": True}),
        ("PUT", "/v1/keys/0000000G", {"use": True}),
        ("PUT", "/v1/keys/00000001", {}),
        ("PUT", "/v1/keys/00000001", {"use": 1}),
        ("PUT", "/v1/keys/00000001", {"use": True, "force": "yes"}),
        ("DELETE", "/v1/keys/00000001?force=1", None),
    ],
)
async def test_a_malformed_order_changes_nothing(
    client: httpx.AsyncClient, node: FakeNode, method: str, path: str, body: object
) -> None:
    response = await client.request(method, path, json=body)
    assert response.status_code == 400
    assert (node.sealing, node.held) == ("00000001", ["00000001", "00000002"])
