"""`meshlb keys`: the rotation of the cluster's secrets, step by step, for all members at once."""

import base64
import re
import sys
from typing import Any

import click

from meshlb.cli import show
from meshlb.cli.client import AdminClient, admin_options, show_json
from meshlb.cli.group import Refused

KEY_ID = re.compile(r"[0-9a-fA-F]{8}")

force_option = click.option(
    "--force",
    is_flag=True,
    help="Even though members have not followed yet. One that holds none of the others' secrets"
    " any more is refused by them until its configuration names one.",
)


@click.group()
def keys() -> None:
    """Rotate the cluster's secrets: install, use, remove.

    Each step is for all members. KEY is the id that `list` shows, the secret itself in base64, or -
    to read the secret from stdin, where no other user of the machine can see it.
    """


@keys.command("list")
@admin_options
def list_keys(client: AdminClient, as_json: bool) -> None:
    """The secrets by their ids, and what each member does with each."""
    answer = client.ask("/v1/keys")
    if as_json:
        show_json(answer)
    else:
        show.keys(answer["keys"])


@keys.command()
@admin_options
@click.argument("key", metavar="SECRET")
def install(client: AdminClient, as_json: bool, key: str) -> None:
    """Have all members hold the new SECRET: base64, or - for stdin."""
    secret = _secret(_given(key))
    text = base64.b64encode(secret).decode()
    _report(client.send("POST", "/v1/keys", body={"secret": text}), "holds", as_json=as_json)


@keys.command()
@admin_options
@force_option
@click.argument("key")
def use(client: AdminClient, as_json: bool, force: bool, key: str) -> None:
    """Have all members seal with KEY.

    Refused until all live members hold it.
    """
    body = {"use": True, "force": force}
    answer = client.send("PUT", f"/v1/keys/{_key_id(key)}", body=body)
    _report(answer, "seals with", as_json=as_json)


@keys.command()
@admin_options
@force_option
@click.argument("key")
def remove(client: AdminClient, as_json: bool, force: bool, key: str) -> None:
    """Have all members forget KEY.

    Refused while a member, live or dead, may still need it. Load-balancer cookies that KEY sealed
    open no more: leave time for clients to come back.
    """
    answer = client.send("DELETE", f"/v1/keys/{_key_id(key)}", force="true" if force else "false")
    _report(answer, "has forgotten", as_json=as_json)


def _report(answer: Any, verb: str, *, as_json: bool) -> None:
    """Who has acknowledged; exit code 1 where a live member has not."""
    if as_json:
        show_json(answer)
    else:
        for name in answer["acknowledged"]:
            show.line(f"{name} {verb} {answer['id']}")
        for name in answer["away"]:
            show.line(f"{name} is away and follows when it returns")
    if answer["waiting_for"]:
        names = ", ".join(answer["waiting_for"])
        raise Refused(f"key {answer['id']}: no word yet from {names}; look with `meshlb keys list`")


def _given(text: str) -> str:
    return sys.stdin.readline().strip() if text == "-" else text


def _secret(text: str) -> bytes:
    """The secret that `text` is; the error does not repeat it."""
    from meshlb.model import CLUSTER_SECRET_BYTES

    try:
        secret = base64.b64decode(text, validate=True)
    except ValueError:
        secret = b""
    if len(secret) != CLUSTER_SECRET_BYTES:
        raise click.UsageError("a secret is the base64 of 32 bytes; `meshlb keygen` makes one")
    return secret


def _key_id(text: str) -> str:
    """The id of a key given by its id or by itself."""
    text = _given(text)
    if KEY_ID.fullmatch(text):
        return text.lower()
    from meshlb.wire.seal import key_id_of

    return key_id_of(_secret(text)).hex()
