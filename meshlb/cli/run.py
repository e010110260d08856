"""`meshlb run`: a node in the foreground."""

import signal
from functools import partial
from pathlib import Path

import click

from meshlb import logs
from meshlb.cli.check import CONFIG, report
from meshlb.cli.group import Refused
from meshlb.errors import ConfigError, MeshlbError


@click.command()
@click.argument("config", type=CONFIG)
@click.option("--log-level", type=click.Choice(logs.LEVELS), default="info", show_default=True)
@click.option("--log-format", type=click.Choice(logs.FORMATS), default="auto", show_default=True)
def run(config: Path, log_level: str, log_format: str) -> None:
    """Run a node by the file CONFIG, until SIGTERM or Ctrl-C."""
    from meshlb.config import load

    # What comes before the node can obey waits for it, rather than ending the process.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP, signal.SIGUSR2})
    try:
        settings = load(config)
    except ConfigError as error:
        _tell_process_before(error)
        report(config, error)
    logs.configure(level=log_level, form=log_format)
    import trio

    from meshlb import node

    try:
        trio.run(partial(node.run, settings, load=partial(load, config), upgrades=True))
    except MeshlbError as error:
        raise Refused(str(error)) from None
    except BaseExceptionGroup as group:
        ours, others = group.split(MeshlbError)
        if ours is None or others is not None:
            raise
        raise Refused(str(_first(ours))) from None


def _tell_process_before(error: ConfigError) -> None:
    """If this process was to take over from another one, that one goes on, and says why."""
    from meshlb.node.upgrading import refuse_heritage

    refuse_heritage(error.faults)


def _first(group: BaseExceptionGroup[MeshlbError]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
