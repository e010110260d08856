import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from meshlb.cli.client import AdminClient
from tests.unit.cli.conftest import Invoke, one_line


@pytest.fixture
def free_port() -> Iterator[int]:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        yield reserved.getsockname()[1]


class Stranger(BaseHTTPRequestHandler):
    """Answers, but is no admin API of meshlb; repeats the Authorization field it was sent."""

    def do_GET(self) -> None:
        body = json.dumps({"you sent": self.headers.get("Authorization")}).encode()
        self.send_response(200 if self.path == "/v1/pools" else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        """Quiet."""


@pytest.fixture
def stranger() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Stranger) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_node_that_cannot_be_reached_is_exit_1(invoke: Invoke, free_port: int) -> None:
    result = invoke("status", "--admin", f"http://127.0.0.1:{free_port}")
    assert result.exit_code == 1
    assert "cannot be reached" in one_line(result)


def test_a_unix_socket_that_is_not_there_is_exit_1(invoke: Invoke, tmp_path: Path) -> None:
    result = invoke("status", "--admin", f"unix:{tmp_path}/none.sock")
    assert result.exit_code == 1
    assert "cannot be reached" in one_line(result)


def test_whoever_is_no_node_is_exit_1(invoke: Invoke, stranger: str) -> None:
    result = invoke("status", "--admin", stranger)
    assert result.exit_code == 1
    assert "this is no admin API of meshlb (status 404)" in one_line(result)


def test_the_node_can_be_named_by_the_environment(invoke: Invoke, admin: str) -> None:
    assert invoke("members", environment={"MESHLB_ADMIN": admin}).exit_code == 0


def test_a_node_can_be_named_without_a_scheme(invoke: Invoke, admin: str) -> None:
    assert invoke("members", "--admin", admin.removeprefix("http://")).exit_code == 0


def test_the_token_goes_along(stranger: str) -> None:
    with AdminClient(stranger, token="s3cret") as client:
        assert client.ask("/v1/pools") == {"you sent": "Bearer s3cret"}


def test_the_token_is_read_from_its_file_and_never_shown(
    invoke: Invoke, stranger: str, tmp_path: Path
) -> None:
    token_file = tmp_path / "token"
    token_file.write_text("s3cret\n")
    result = invoke("pools", "--json", "--admin", stranger, "--token-file", str(token_file))
    assert json.loads(result.stdout) == {"you sent": "Bearer s3cret"}
    missing = invoke("pools", "--admin", stranger, "--token-file", str(tmp_path / "none"))
    assert missing.exit_code == 2


def test_a_nodes_refusal_is_exit_1_with_its_own_words(ask: Invoke) -> None:
    result = ask("explain", "--pool", "app", "nobody")
    assert result.exit_code == 1
    assert "the key has no pin in the pool 'app'" in one_line(result)
    result = ask("drain", "--pool", "app", "s9")
    assert result.exit_code == 1
    assert "no backend 's9'" in one_line(result)


def test_an_ambiguous_pool_is_exit_2_and_names_the_pools(ask: Invoke) -> None:
    result = ask("drain", "s1")
    assert result.exit_code == 2
    assert "app, other" in one_line(result)


@pytest.mark.parametrize("address", ["ftp://127.0.0.1", "http://[::1", "http://x:port"])
def test_an_address_that_is_none_is_exit_2(invoke: Invoke, address: str) -> None:
    result = invoke("status", "--admin", address)
    assert result.exit_code == 2
    one_line(result)
