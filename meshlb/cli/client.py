"""Talks to a node's admin API, and the options that all such commands share.

Owns the way to the node and the translation of its refusals into `Refused`. It must not know what
any command asks for.
"""

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, ParamSpec, Self, TypeVar

import click
import httpx

from meshlb.cli.group import Refused

DEFAULT_ADMIN: Final = "http://127.0.0.1:7900"
TIMEOUT_S: Final = 10.0

P = ParamSpec("P")
R = TypeVar("R")


class AdminClient:
    """One node's admin API; `address` is an HTTP URL, `host:port`, or `unix:/path`."""

    def __init__(self, address: str, *, token: str | None) -> None:
        self.address = address
        transport, base = None, address
        if address.startswith("unix:"):
            path = Path(address.removeprefix("unix:"))
            if not path.is_socket():
                raise Refused(f"{address}: cannot be reached: there is no such socket")
            transport = httpx.HTTPTransport(uds=str(path))
            base = "http://localhost"
        elif "://" not in address:
            base = f"http://{address}"
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        try:
            self._http = httpx.Client(
                base_url=base,
                headers=headers,
                timeout=TIMEOUT_S,
                transport=transport,
                trust_env=False,
            )
        except (httpx.InvalidURL, ValueError) as error:
            raise click.UsageError(f"--admin {address}: {error}") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self._http.close()

    def ask(self, path: str, **params: str) -> Any:
        """GET `path`."""
        return self._request("GET", path, None, TIMEOUT_S, params)

    def send(
        self,
        method: str,
        path: str,
        *,
        body: object = None,
        timeout_s: float = TIMEOUT_S,
        **params: str,
    ) -> Any:
        """The JSON that the node answers within `timeout_s`.

        Raises:
            Refused: the node said no, cannot be reached, or is no node of meshlb.
        """
        return self._request(method, path, body, timeout_s, params)

    def _request(
        self, method: str, path: str, body: object, timeout_s: float, params: dict[str, str]
    ) -> Any:
        try:
            response = self._http.request(
                method,
                path,
                params=params,
                json=body,
                headers={"Accept": "application/json"},
                timeout=timeout_s,
            )
        except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
            raise click.UsageError(f"--admin {self.address}: {error}") from None
        except httpx.TimeoutException:
            raise Refused(f"{self.address}: no answer within {timeout_s:g} s") from None
        except httpx.HTTPError as error:
            raise Refused(f"{self.address}: cannot be reached: {error}") from None
        try:
            answer = response.json()
            if response.is_success:
                return answer
            message, *faults = _refusal(answer)
        except (ValueError, KeyError, TypeError):
            message = f"this is no admin API of meshlb (status {response.status_code})"
            raise Refused(f"{self.address}: {message}") from None
        raise Refused("".join([message, *(f"\nmeshlb: {fault}" for fault in faults)]))


def _refusal(answer: Any) -> list[str]:
    """The message of an error, and the faults that it lists."""
    error = answer["error"]
    return [str(error["message"]), *map(str, error.get("faults", ()))]


def admin_options(command: Callable[..., R]) -> Callable[..., R]:
    """Adds `--admin`, `--token-file` and `--json`; the command gets a `client` and `as_json`."""

    @click.option(
        "--admin",
        metavar="URL",
        envvar="MESHLB_ADMIN",
        default=DEFAULT_ADMIN,
        show_default=True,
        show_envvar=True,
        help="The node's admin API: http://HOST:PORT or unix:/PATH.",
    )
    @click.option(
        "--token-file",
        metavar="PATH",
        envvar="MESHLB_TOKEN_FILE",
        show_envvar=True,
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="The file with the admin token, where the node asks for one.",
    )
    @click.option(
        "--json", "as_json", is_flag=True, help="The node's answer as it is, for programs."
    )
    @functools.wraps(command)
    def wrapper(*args: Any, admin: str, token_file: Path | None, **kwargs: Any) -> R:
        token = None if token_file is None else token_file.read_text(encoding="utf-8").strip()
        with AdminClient(admin, token=token) as client:
            return command(*args, client=client, **kwargs)

    return wrapper


pool_option = click.option(
    "--pool", metavar="NAME", help="The pool; may be left out where the node has just one."
)


def the_pool(client: AdminClient, named: str | None) -> str:
    """The pool that is meant: the one named, or the node's only one."""
    if named is not None:
        return named
    names = [str(pool["name"]) for pool in client.ask("/v1/pools")["pools"]]
    if len(names) != 1:
        known = ", ".join(names) or "none"
        raise click.UsageError(f"name the pool with --pool; the node has: {known}")
    return names[0]


def show_json(answer: object) -> None:
    """An answer for programs."""
    click.echo(json.dumps(answer, indent=2, ensure_ascii=False))
