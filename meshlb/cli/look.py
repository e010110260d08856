"""The commands that look at a node: status, members, pools, pins, explain, heals."""

from typing import Any

import click

from meshlb.cli import show
from meshlb.cli.client import AdminClient, admin_options, pool_option, show_json, the_pool


@click.command()
@admin_options
def status(client: AdminClient, as_json: bool) -> None:
    """The node at a glance."""
    answer = client.ask("/v1/status")
    if as_json:
        show_json(answer)
        return
    alive, others = answer["members"].get("alive", 0), dict(answer["members"])
    others.pop("alive", None)
    rest = ", ".join(f"{count} {state}" for state, count in others.items() if count)
    show.facts(
        {
            "node": f"{answer['node']} (pid {answer['pid']}, meshlb {answer['version']}"
            + (", compiled)" if answer.get("compiled") else ")"),
            "cluster": answer["cluster"] or "none, the node stands alone",
            "members": f"{alive} alive" + (f", {rest}" if rest else ""),
            "pins": f"{answer['pins']:,}",
            "stick table": show.table_of(answer),
            **({} if answer["quorate"] else {"majority": "no: this node is with a minority"}),
            **({} if answer["store"]["written"] else {"disk": _unwritten(answer["store"])}),
            "configuration": f"in force since {answer['config']['loaded_at']}",
            **_failed_reload(answer["config"]),
            **_crew(answer["workers"]),
            "tunnels": _carrier(answer["kernel_relay"]),
            "ready": "yes" if answer["ready"] else f"no: {answer['reason']}",
            "up for": show.duration(answer["uptime_s"]),
            **{f"listener {name}": bound for name, bound in answer["listeners"].items()},
        }
    )


def _failed_reload(config: dict[str, Any]) -> dict[str, str]:
    """What stands in the way of the configuration file as it was last read."""
    if not config.get("faults"):
        return {}
    return {"reload failed": "; ".join(config["faults"])}


def _crew(workers: list[dict[str, Any]]) -> dict[str, str]:
    """The processes that serve clients, where the node has several."""
    if not workers:
        return {}
    accepting = sum(worker["accepting"] for worker in workers)
    clients = ", ".join(str(worker["connections"] + worker["tunnels"]) for worker in workers)
    restarts = sum(worker["restarts"] for worker in workers)
    return {
        "workers": f"{accepting} of {len(workers)} let clients in; clients: {clients}"
        + (f"; replaced: {restarts}" if restarts else "")
    }


def _carrier(relay: dict[str, Any]) -> str:
    return "relayed by the kernel" if relay["active"] else f"in user space: {relay['reason']}"


def _unwritten(store: dict[str, Any]) -> str:
    return (
        f"the stick table is not written ({store['reason']}):"
        f" {store['waiting']:,} records are in memory alone"
    )


@click.command()
@admin_options
def members(client: AdminClient, as_json: bool) -> None:
    """The members of the cluster as this node sees them."""
    answer = client.ask("/v1/members")
    if as_json:
        show_json(answer)
    else:
        show.members(answer["members"])


@click.command()
@admin_options
@pool_option
def pools(client: AdminClient, as_json: bool, pool: str | None) -> None:
    """The pools and their backends."""
    answer = client.ask("/v1/pools")
    if pool is not None:
        answer = {"pools": [known for known in answer["pools"] if known["name"] == pool]}
        if not answer["pools"]:
            raise click.UsageError(f"there is no pool {pool!r}")
    if as_json:
        show_json(answer)
    else:
        show.pools(answer["pools"])


@click.command()
@admin_options
@pool_option
@click.option("--backend", metavar="NAME", help="Only the pins of this backend.")
@click.option("--limit", default=100, show_default=True, type=click.IntRange(1, 1000))
def pins(
    client: AdminClient, as_json: bool, pool: str | None, backend: str | None, limit: int
) -> None:
    """Live pins in this node's replica; keys are shown hashed."""
    params = {"limit": str(limit)}
    if pool is not None or backend is not None:
        params["pool"] = the_pool(client, pool)
    if backend is not None:
        params["backend"] = backend
    answer = client.ask("/v1/pins", **params)
    if as_json:
        show_json(answer)
    else:
        show.pins(answer["pins"])


@click.command()
@admin_options
@pool_option
@click.argument("key")
def explain(client: AdminClient, as_json: bool, pool: str | None, key: str) -> None:
    """Why the session KEY goes where it goes.

    Tells who pinned it, when, and why it moved. KEY is what the client sends: a cookie's value, a
    header's value, an address.
    """
    answer = client.ask("/v1/explain", pool=the_pool(client, pool), key=key)
    if as_json:
        show_json(answer)
        return
    facts = {
        "backend": f"{answer['backend']} ({answer['backend_state']}) of pool {answer['pool']}",
        "known by": answer["by"],
        "made by": f"{answer['made_by']}, {show.moment(answer['made_at'])}",
        "moved": show.times(answer["epoch"]),
        "rank": answer["rank"],
        "expires in": f"{show.duration(answer['expires_in_s'])}, unless used",
    }
    if answer["home"]:
        facts["home, backup"] = f"{answer['home']}, {answer['backup'] or 'none'}"
    show.facts(facts)
    for change in answer["history"]:
        show.line(f"{show.moment(change['at'])}  {change['what']}")


@click.command()
@admin_options
@click.option("--all", "shows_all", is_flag=True, help="Every pin that moved, as far as listed.")
def heals(client: AdminClient, as_json: bool, shows_all: bool) -> None:
    """The partitions that have ended, and which pins moved."""
    answer = client.ask("/v1/heals")
    if as_json:
        show_json(answer)
    elif answer["heals"]:
        show.heals(answer["heals"], moves_max=None if shows_all else show.MOVES_SHOWN)
    else:
        status = client.ask("/v1/status")
        ago = show.duration(status["uptime_s"])
        show.line(f"no partition has ended since {status['node']} started, {ago} ago")
