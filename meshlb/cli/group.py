"""The group of all commands: how they fail, and in which order they are listed.

Owns the rule that an error is one clear line on stderr and an exit code: 0 done, 1 the node
refused or cannot be reached, 2 usage or configuration.
"""

import os
import sys
from typing import Any, NoReturn

import click

from meshlb import __version__
from meshlb.native import is_compiled

INTERRUPTED = 130
"""What a shell reports for a command that Ctrl-C ended."""


class Refused(click.ClickException):
    """The node refused, or cannot be reached; exit code 1."""

    exit_code = 1


class Commands(click.Group):
    """Lists commands as they were added, and ends every failure with one line."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order of their families, not of the alphabet."""
        return list(self.commands)

    def main(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Run the command line and exit."""
        kwargs["standalone_mode"] = False
        try:
            outcome = super().main(*args, **kwargs)
            sys.stdout.flush()
            sys.exit(outcome if isinstance(outcome, int) else 0)
        except click.exceptions.NoArgsIsHelpError as error:
            error.show()
            sys.exit(error.exit_code)
        except click.ClickException as error:
            click.echo(f"meshlb: {error.format_message()}", err=True)
            sys.exit(error.exit_code)
        except (click.Abort, KeyboardInterrupt):
            sys.exit(INTERRUPTED)
        except BrokenPipeError:
            # Whoever read our output has seen enough; nothing more must be flushed to it.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(1)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(
    f"{__version__}, compiled" if is_compiled() else __version__, prog_name="meshlb"
)
def main() -> None:
    """A sticky-session proxy whose nodes agree, peer to peer, on every pin."""
