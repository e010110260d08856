import re
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest

from meshlb.admin.api import KEY_CHARACTERS_MAX, PINS_LIMIT_MAX, build_app
from meshlb.admin.node_view import NodeView
from meshlb.model import BackendState
from tests.fakes.node import FakeNode


@pytest.fixture
def node() -> FakeNode:
    return FakeNode()


@pytest.fixture
async def client(node: FakeNode) -> AsyncIterator[httpx.AsyncClient]:
    view: NodeView = node
    transport = httpx.ASGITransport(app=build_app(view), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        yield client


def error_code(response: httpx.Response) -> str:
    body = response.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"code", "message"}
    assert body["error"]["message"]
    return str(body["error"]["code"])


async def test_status_has_the_fields_of_the_contract(client: httpx.AsyncClient) -> None:
    body = (await client.get("/v1/status")).json()
    assert body["node"] == "lb-1"
    assert body["cluster"] == "shop"
    assert body["members"]["alive"] == 2
    assert body["pins"] == 2
    assert body["in_sync"] is True
    assert body["sync"] == {"lb-2": {"age_s": 3.0, "differing_keys": 0}}
    assert {"version", "uptime_s"} <= set(body)


async def test_members_and_pools_are_lists_under_their_name(client: httpx.AsyncClient) -> None:
    members = (await client.get("/v1/members")).json()["members"]
    assert [(member["name"], member["state"]) for member in members] == [
        ("lb-1", "alive"),
        ("lb-2", "alive"),
        ("lb-3", "dead"),
    ]
    assert [member["sync"] for member in members] == [
        None,
        {"age_s": 3.0, "differing_keys": 0},
        None,
    ]
    pools = (await client.get("/v1/pools")).json()["pools"]
    assert pools[0]["name"] == "app"
    assert pools[0]["backends"][0]["state"] == "up"
    assert {"address", "weight", "connections", "pins"} <= set(pools[0]["backends"][0])


async def test_heals_say_how_many_pins_moved_and_which(client: httpx.AsyncClient) -> None:
    (heal,) = (await client.get("/v1/heals")).json()["heals"]
    assert (heal["members"], heal["pins_moved"]) == (["lb-2"], 1)
    assert heal["moves"] == [
        {"key": "ab" * 16, "pool": "app", "moved_from": "s1", "moved_to": "s2"}
    ]


async def test_a_live_node_is_healthy_and_ready_only_in_sync(
    client: httpx.AsyncClient, node: FakeNode
) -> None:
    assert (await client.get("/readyz")).status_code == 200
    node.unready = "the table is not in sync"
    response = await client.get("/readyz")
    assert response.status_code == 503
    assert error_code(response) == "not_ready"
    assert response.json()["error"]["message"] == "the table is not in sync"
    assert (await client.get("/healthz")).status_code == 200


async def test_pins_can_be_narrowed_to_a_backend(client: httpx.AsyncClient) -> None:
    everything = (await client.get("/v1/pins")).json()["pins"]
    assert [pin["backend"] for pin in everything] == ["s1", "s2"]
    narrowed = (await client.get("/v1/pins", params={"pool": "app", "backend": "s2"})).json()
    assert [pin["backend"] for pin in narrowed["pins"]] == ["s2"]
    limited = (await client.get("/v1/pins", params={"limit": "1"})).json()
    assert len(limited["pins"]) == 1


async def test_explain_answers_from_the_replica(client: httpx.AsyncClient) -> None:
    response = await client.get("/v1/explain", params={"pool": "app", "key": "alice"})
    body = response.json()
    assert (body["pool"], body["backend"], body["by"]) == ("app", "s1", "header")
    assert {"made_by", "made_at", "epoch", "rank", "expires_in_s", "history"} <= set(body)


async def test_unpin_removes_a_pin_once(client: httpx.AsyncClient) -> None:
    params = {"pool": "app", "key": "alice"}
    assert (await client.delete("/v1/pins", params=params)).status_code == 200
    response = await client.delete("/v1/pins", params=params)
    assert (response.status_code, error_code(response)) == (404, "no_pin")


@pytest.mark.parametrize("state", ["up", "draining", "maintenance"])
async def test_a_backend_can_be_put_to_each_settable_state(
    client: httpx.AsyncClient, node: FakeNode, state: str
) -> None:
    response = await client.put("/v1/pools/app/backends/s1/state", json={"state": state})
    assert response.status_code == 200
    assert node.states == {"s1": BackendState(state)}
    body = response.json()
    assert (body["acknowledged"], body["waiting_for"], body["gone"]) == (["lb-2"], [], [])
    spoken_of, other = (await client.get("/v1/pools")).json()["pools"][0]["backends"]
    assert (spoken_of["order"]["state"], spoken_of["order"]["by"]) == (state, "lb-2")
    assert other["order"] is None


async def test_a_dead_member_can_be_forgotten_and_no_other(
    client: httpx.AsyncClient, node: FakeNode
) -> None:
    response = await client.delete("/v1/members/lb-3")
    assert (response.status_code, response.json()) == (200, {"forgotten": "lb-3"})
    refused = await client.delete("/v1/members/lb-2")
    assert (refused.status_code, error_code(refused)) == (409, "not_dead")
    refused = await client.delete("/v1/members/lb-9")
    assert (refused.status_code, error_code(refused)) == (404, "unknown_member")
    assert node.forgotten == ["lb-3"]


async def test_leave_is_accepted(client: httpx.AsyncClient, node: FakeNode) -> None:
    assert (await client.post("/v1/leave")).status_code == 202
    assert node.left


REFUSED = [
    ("GET", "/nowhere", {}, 404, "not_found"),
    ("GET", "/v1/pools/app/backends/s1", {}, 404, "not_found"),
    ("POST", "/v1/status", {}, 405, "method_not_allowed"),
    ("GET", "/v1/leave", {}, 405, "method_not_allowed"),
    ("GET", "/v1/explain", {}, 400, "bad_request"),
    ("GET", "/v1/explain?pool=app", {}, 400, "bad_request"),
    ("GET", "/v1/explain?pool=app&key=nobody", {}, 404, "no_pin"),
    ("GET", "/v1/explain?pool=none&key=alice", {}, 404, "unknown_pool"),
    ("GET", "/v1/explain?pool=app&key=" + "k" * (KEY_CHARACTERS_MAX + 1), {}, 400, "bad_request"),
    ("DELETE", "/v1/pins?pool=none&key=alice", {}, 404, "unknown_pool"),
    ("DELETE", "/v1/pins", {}, 400, "bad_request"),
    ("GET", "/v1/pins?limit=0", {}, 400, "bad_request"),
    ("GET", f"/v1/pins?limit={PINS_LIMIT_MAX + 1}", {}, 400, "bad_request"),
    ("GET", "/v1/pins?limit=" + "9" * 5_000, {}, 400, "bad_request"),
    ("GET", "/v1/pins?limit=ten", {}, 400, "bad_request"),
    ("GET", "/v1/pins?limit=%C2%B2", {}, 400, "bad_request"),
    ("GET", "/v1/pins?backend=s1", {}, 400, "bad_request"),
    ("GET", "/v1/pins?pool=app&backend=x1", {}, 404, "unknown_backend"),
    ("PUT", "/v1/pools/app/backends/x1/state", {"json": {"state": "up"}}, 404, "unknown_backend"),
    ("PUT", "/v1/pools/no/backends/s1/state", {"json": {"state": "up"}}, 404, "unknown_pool"),
    ("PUT", "/v1/pools/app/backends/s1/state", {"json": {"state": "down"}}, 400, "bad_request"),
    ("PUT", "/v1/pools/app/backends/s1/state", {"json": {"state": []}}, 400, "bad_request"),
    ("PUT", "/v1/pools/app/backends/s1/state", {"json": ["up"]}, 400, "bad_request"),
    ("PUT", "/v1/pools/app/backends/s1/state", {"content": b"{"}, 400, "bad_request"),
    ("PUT", "/v1/pools/app/backends/s1/state", {"content": b"\xff"}, 400, "bad_request"),
    ("PUT", "/v1/pools/app/backends/s1/state", {"content": b"[" * 4_000}, 400, "bad_request"),
]


@pytest.mark.parametrize(("method", "path", "extra", "status", "code"), REFUSED)
async def test_a_bad_request_gets_a_well_formed_error_and_changes_nothing(
    client: httpx.AsyncClient,
    node: FakeNode,
    method: str,
    path: str,
    extra: dict[str, Any],
    status: int,
    code: str,
) -> None:
    response = await client.request(method, path, **extra)
    assert (response.status_code, error_code(response)) == (status, code)
    assert node == FakeNode()


async def test_a_405_says_what_is_allowed(client: httpx.AsyncClient) -> None:
    response = await client.put("/v1/pins")
    assert set(response.headers["allow"].split(", ")) == {"GET", "HEAD", "DELETE"}


async def test_our_own_bug_is_a_well_formed_500_without_details(
    client: httpx.AsyncClient, node: FakeNode
) -> None:
    node.broken = True
    response = await client.get("/v1/status")
    assert (response.status_code, error_code(response)) == (500, "internal")
    assert "a bug" not in response.text


async def test_metrics_are_prometheus_text_with_every_family(client: httpx.AsyncClient) -> None:
    response = await client.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain")
    lines = response.text.splitlines()
    assert 'meshlb_requests_total{listener="web",status="2xx"} 7.0' in lines
    assert 'meshlb_pins_total{outcome="conflict"} 0.0' in lines
    assert 'meshlb_pins_live{backend="s1",pool="app"} 1.0' in lines
    assert 'meshlb_datagrams_refused_total{reason="seal"} 3.0' in lines
    assert 'meshlb_sync_differing_keys{peer="lb-2"} 4.0' in lines
    assert 'meshlb_sync_age_seconds{peer="lb-2"} 3.5' in lines
    families = {line.split()[2] for line in lines if line.startswith("# TYPE ")}
    assert {
        "meshlb_members",
        "meshlb_relayed_bytes_total",
        "meshlb_connections",
        "meshlb_loop_lag_seconds",
        "meshlb_malformed_requests_total",
        "meshlb_accepted_total",
        "meshlb_accepting_paused_total",
        "meshlb_backend_connects_total",
        "meshlb_backend_connects_failed_total",
        "meshlb_requests_moved_total",
        "meshlb_requests_repeated_total",
        "meshlb_proxy_headers_refused_total",
        "meshlb_tls_handshakes_total",
        "meshlb_tls_handshakes_failed_total",
        "process_resident_memory_bytes",
    } <= families


def addresses_in(page: str) -> Iterator[str]:
    return (found for found in re.findall(r"""https?://[^\s"'<>]+""", page))


async def test_the_dashboard_needs_nothing_from_elsewhere(client: httpx.AsyncClient) -> None:
    response = await client.get("/")
    assert response.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in response.headers["content-security-policy"]
    assert list(addresses_in(response.text)) == []
    assert "<main" in response.text


async def test_a_reload_answers_what_changed_or_each_fault(
    client: httpx.AsyncClient, node: FakeNode
) -> None:
    node.changes = ("pool.app.backend.s3: added",)
    answer = await client.post("/v1/reload")
    assert (answer.status_code, answer.json()) == (200, {"changes": list(node.changes)})
    node.faults = ("node.name: needs a restart",)
    answer = await client.post("/v1/reload")
    assert answer.status_code == 422
    assert answer.json()["error"] == {
        "code": "faulty_configuration",
        "message": "not reloaded",
        "faults": ["node.name: needs a restart"],
    }
    assert (await client.get("/v1/status")).json()["config"]["faults"] == list(node.faults)


async def test_an_upgrade_names_the_new_process_or_says_why_there_is_none(
    client: httpx.AsyncClient, node: FakeNode
) -> None:
    answer = await client.post("/v1/upgrade")
    assert (answer.status_code, answer.json()) == (202, {"pid": 4712})
    node.faults = ("no",)
    answer = await client.post("/v1/upgrade")
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "not_upgraded")
