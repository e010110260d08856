"""`meshlb demo`: three nodes and three backends on loopback, live."""

import click


@click.command()
@click.option("--nodes", default=3, show_default=True, type=click.IntRange(1, 9))
@click.option("--backends", default=3, show_default=True, type=click.IntRange(1, 9))
@click.option("--clients", default=12, show_default=True, type=click.IntRange(0, 200))
@click.option("--seconds", type=click.FloatRange(1.0), help="End after so long, with a summary.")
@click.option(
    "--port",
    default=8080,
    show_default=True,
    type=click.IntRange(1, 65_000),
    help="The first node's.",
)
@click.option(
    "--kill/--no-kill",
    default=True,
    show_default=True,
    help="With --seconds: kill a node a third in and start it again later.",
)
@click.option("--no-browser", is_flag=True, help="Do not open the chat page in a browser.")
def demo(
    nodes: int,
    backends: int,
    clients: int,
    seconds: float | None,
    port: int,
    kill: bool,
    no_browser: bool,
) -> None:
    """Watch clients keep their backend while nodes die.

    Nodes, backends and clients all run on this machine. Exits with 0 only if no client lost its
    backend without cause.
    """
    from meshlb.demo.director import Plan, direct

    plan = Plan(
        nodes=nodes,
        backends=backends,
        clients=clients,
        seconds=seconds,
        port=port,
        kills=kill and seconds is not None and nodes > 1,
        opens_browser=not no_browser,
    )
    raise click.exceptions.Exit(direct(plan))
