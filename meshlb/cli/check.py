"""`meshlb check`: the configuration's faults, all at once. Opens no port."""

from pathlib import Path
from typing import NoReturn

import click

from meshlb.errors import ConfigError

CONFIG = click.Path(path_type=Path)


@click.command()
@click.argument("config", type=CONFIG)
def check(config: Path) -> None:
    """Say whether the file CONFIG is good, or all its faults.

    The exit code is 2 where there are any. No port is opened: a node may run beside it.
    """
    from meshlb.config import load
    from meshlb.config.certificates import out_of_date, utc_now
    from meshlb.config.tls_faults import warnings

    try:
        settings = load(config)
        # A node that runs goes on with it; who checks a file wants to know.
        if (cluster := settings.cluster) is not None and cluster.tls is not None:
            stale = list(out_of_date(cluster.tls.cert, utc_now()))
            if stale:
                raise ConfigError(stale)
    except ConfigError as error:
        report(config, error)
    for warning in warnings(settings, utc_now()):
        click.echo(f"meshlb: warning: {warning}", err=True)
    click.echo(f"{config}: good")


def report(config: Path, error: ConfigError) -> NoReturn:
    """Every fault on a line of its own, then exit code 2."""
    for fault in error.faults:
        prefix = "" if fault.startswith(f"{config}:") else f"{config}: "
        click.echo(f"meshlb: {prefix}{fault}", err=True)
    raise click.exceptions.Exit(2)
