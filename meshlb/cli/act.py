"""The commands that steer a node or its cluster: pins, backends and members."""

import time
from typing import Final
from urllib.parse import quote

import click

from meshlb.cli import show
from meshlb.cli.client import AdminClient, admin_options, pool_option, show_json, the_pool
from meshlb.cli.group import Refused

RELOAD_S_MAX: Final = 90.0
"""New backends are probed first, and a probe may take a minute."""

UPGRADE_S_MAX: Final = 120.0
"""For the start of the new process, and again for its being ready."""

UPGRADE_POLL_S: Final = 0.1


@click.command()
@admin_options
@pool_option
@click.argument("key")
def unpin(client: AdminClient, as_json: bool, pool: str | None, key: str) -> None:
    """Forget the pin of the session KEY, on all nodes."""
    answer = client.send("DELETE", "/v1/pins", pool=the_pool(client, pool), key=key)
    show_json(answer) if as_json else show.line("unpinned")


@click.command()
@admin_options
@pool_option
@click.argument("backend")
def drain(client: AdminClient, as_json: bool, pool: str | None, backend: str) -> None:
    """Give BACKEND no new sessions, on all nodes.

    It keeps those it has.
    """
    _set_state(client, as_json, pool, backend, "draining")


@click.command()
@admin_options
@pool_option
@click.argument("backend")
def ready(client: AdminClient, as_json: bool, pool: str | None, backend: str) -> None:
    """Let BACKEND serve again, on all nodes.

    From now on its health decides.
    """
    _set_state(client, as_json, pool, backend, "up")


@click.command()
@admin_options
@pool_option
@click.argument("backend")
def maintenance(client: AdminClient, as_json: bool, pool: str | None, backend: str) -> None:
    """Give BACKEND nothing, on all nodes.

    Its sessions move when they are next used.
    """
    _set_state(client, as_json, pool, backend, "maintenance")


@click.command()
@admin_options
@click.argument("member")
def forget(client: AdminClient, as_json: bool, member: str) -> None:
    """Count the dead MEMBER as having left.

    It was taken away, and does not come back: a dead member counts for the majority, and what was
    unpinned is kept for it.
    """
    answer = client.send("DELETE", f"/v1/members/{quote(member, safe='')}")
    show_json(answer) if as_json else show.line(f"{member} is forgotten")


@click.command()
@admin_options
def reload(client: AdminClient, as_json: bool) -> None:
    """Have the node go by its file as it is now.

    Every connection stays. Of a faulty file every fault is told, and nothing changes.
    """
    answer = client.send("POST", "/v1/reload", timeout_s=RELOAD_S_MAX)
    if as_json:
        show_json(answer)
        return
    for change in answer["changes"] or ["reloaded; nothing is different"]:
        show.line(change)


@click.command()
@admin_options
def upgrade(client: AdminClient, as_json: bool) -> None:
    """Have the program as it is installed now take over.

    It takes every connection with it.
    """
    failed_before = client.ask("/v1/status")["upgrade"]["failed_at"]
    answer = client.send("POST", "/v1/upgrade", timeout_s=UPGRADE_S_MAX)
    deadline = time.monotonic() + UPGRADE_S_MAX
    while time.monotonic() < deadline:
        time.sleep(UPGRADE_POLL_S)
        try:
            status = client.ask("/v1/status")
        except Refused:
            continue  # Between two processes nobody answers for a moment.
        if status["pid"] == answer["pid"] and status["ready"]:
            show_json(answer) if as_json else show.line(f"upgraded: process {answer['pid']}")
            return
        failed = status["upgrade"]
        if failed["failed_at"] not in (None, failed_before):
            raise Refused(f"not upgraded, and nothing was lost: {failed['reason']}")
    raise Refused(f"no word of the new process {answer['pid']} within {UPGRADE_S_MAX:g} s")


@click.command()
@admin_options
def leave(client: AdminClient, as_json: bool) -> None:
    """Let the node drain, leave its cluster and exit."""
    answer = client.send("POST", "/v1/leave")
    show_json(answer) if as_json else show.line("leaving")


def _set_state(
    client: AdminClient, as_json: bool, pool: str | None, backend: str, state: str
) -> None:
    pool = the_pool(client, pool)
    path = f"/v1/pools/{quote(pool, safe='')}/backends/{quote(backend, safe='')}/state"
    answer = client.send("PUT", path, body={"state": state})
    if as_json:
        show_json(answer)
        return
    deaf = answer.get("waiting_for", ())
    but = f"; not acknowledged yet by {', '.join(deaf)}" if deaf else ""
    show.line(f"{backend} of pool {pool}: {state}{but}")
