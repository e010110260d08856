"""`meshlb top`: a node, its members and its pools, live in the terminal."""

import time
from typing import Final

import click
from rich.console import Group, RenderableType
from rich.live import Live
from rich.text import Text

from meshlb.cli import show
from meshlb.cli.client import AdminClient, admin_options, show_json
from meshlb.cli.group import Refused

FRAMES_PER_SECOND: Final = 4


@click.command()
@admin_options
@click.option("--interval", default=1.0, show_default=True, type=click.FloatRange(0.1, 60.0))
def top(client: AdminClient, as_json: bool, interval: float) -> None:
    """A live view of the node, until Ctrl-C.

    Outside a terminal it is one picture.
    """
    console = show.console()
    if as_json:
        show_json({part: client.ask(f"/v1/{part}") for part in ("status", "members", "pools")})
        return
    if not console.is_terminal:
        console.print(_picture(client))
        return
    with Live(
        _picture(client), console=console, screen=True, refresh_per_second=FRAMES_PER_SECOND
    ) as live:
        while True:
            time.sleep(interval)
            try:
                live.update(_picture(client))
            except Refused as error:
                live.update(Text(f"{error.format_message()}; trying again", style="bold red"))


def _picture(client: AdminClient) -> RenderableType:
    status = client.ask("/v1/status")
    title = Text(f"{status['node']}  ", style="bold")
    title.append(
        f"{status['cluster'] or 'alone'} · {status['pins']:,} pins · "
        f"{'in sync' if status['in_sync'] else 'behind'} · up {show.duration(status['uptime_s'])}",
        style="dim",
    )
    pools = client.ask("/v1/pools")["pools"]
    gap = Text()
    members = show.members_table(client.ask("/v1/members")["members"])
    return Group(title, gap, members, gap, *map(show.pool_table, pools))
