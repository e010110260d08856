"""`meshlb keygen`: a new cluster secret."""

import base64
import secrets

import click

SECRET_BYTES = 32


@click.command()
def keygen() -> None:
    """Print a new secret for `secrets` or a `secrets_file`."""
    click.echo(base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode())
