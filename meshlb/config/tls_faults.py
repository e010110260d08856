"""The tables `tls` and `sni` of listeners and pools: what is wrong with them, files included.

Owns what several of their options say together, and whether the files they name can be used.
Reads files, opens no port, and never shows a key. What the other side believes it cannot tell.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from meshlb.config import certificates, paths
from meshlb.config.paths import Place
from meshlb.config.schema import Settings

Document = Mapping[str, Any]


def faults(document: Document, directory: Path) -> Iterator[str]:
    """A line for each fault, but for the dates of certificates."""
    for place, listener in paths.find(document, "listener.*"):
        if isinstance(listener, Mapping):
            yield from _listener(place, listener, directory)
    yield from _names_are_unique(document)
    yield from _pools_are_known(document)
    for place, table in paths.find(document, "pool.*.tls"):
        if isinstance(table, Mapping):
            yield from _pair(place, table, directory)
            yield from _authorities((*place, "ca"), table.get("ca"), directory)


def warnings(settings: Settings, now: datetime) -> Iterator[str]:
    """A line for each certificate that clients, or backends, will soon refuse, or do already."""
    for listener in settings.listeners:
        if listener.tls is not None:
            for pair in listener.tls.pairs:
                yield from certificates.dates(pair.cert, now)
    for pool in settings.pools.values():
        if pool.tls is not None and pool.tls.cert is not None:
            yield from certificates.dates(pool.tls.cert, now)


def _listener(place: Place, listener: Mapping[str, Any], directory: Path) -> Iterator[str]:
    protocol, tls = listener.get("protocol", "http"), listener.get("tls")
    shown = paths.show(place)
    if listener.get("sni") and (protocol != "tcp" or tls is not None):
        yield (
            f'{shown}.sni: expected only with `protocol = "tcp"` and without `tls`: '
            "names are read from what is passed through"
        )
    if not isinstance(tls, Mapping):
        return
    if protocol == "udp":
        yield f'{shown}.tls: expected only with `protocol = "http"` or "tcp"'
    place = (*place, "tls")
    pairs = tls.get("certificates")
    if not pairs and "cert" not in tls and "key" not in tls:
        yield f"{paths.show(place)}: required: `cert` and `key`, or `certificates`"
    yield from _pair(place, tls, directory)
    for index, pair in enumerate(pairs if isinstance(pairs, list) else []):
        if isinstance(pair, Mapping):
            yield from _pair((*place, "certificates", index), pair, directory)
    yield from _authorities((*place, "client_ca"), tls.get("client_ca"), directory)


def _pair(place: Place, table: Mapping[str, Any], directory: Path) -> Iterator[str]:
    """A certificate and its key: both there, readable, and made for each other."""
    for option, other in (("cert", "key"), ("key", "cert")):
        if option not in table and other in table:
            yield f"{paths.show((*place, option))}: required beside `{other}`"
    read: dict[str, Any] = {}
    for option, reader in (
        ("cert", certificates.read_certificates),
        ("key", certificates.read_key),
    ):
        if isinstance(raw := table.get(option), str) and raw:
            try:
                read[option] = reader(directory / raw)
            except ValueError as error:
                yield f"{paths.show((*place, option))}: {error}"
    if len(read) == 2 and not certificates.are_a_pair(read["cert"][0], read["key"]):
        shown = paths.show((*place, "key"))
        yield f'{shown} = "{table["key"]}": is not the key of the certificate in {table["cert"]}'


def _authorities(place: Place, raw: object, directory: Path) -> Iterator[str]:
    if isinstance(raw, str) and raw:
        try:
            certificates.read_certificates(directory / raw)
        except ValueError as error:
            yield f"{paths.show(place)}: {error}"


def _names_are_unique(document: Document) -> Iterator[str]:
    for place, routes in paths.find(document, "listener.*.sni"):
        seen: dict[str, Place] = {}
        for below, name in paths.find({"sni": routes}, "sni.*.names.*"):
            here = (*place, *below[1:])
            if not isinstance(name, str):
                continue
            if (first := seen.setdefault(name.lower(), here)) != here:
                yield f'{paths.show(here)} = "{name}": {paths.show(first)} has that name already'


def _pools_are_known(document: Document) -> Iterator[str]:
    pools = document.get("pool", {})
    for place, name in paths.find(document, "listener.*.sni.*.pool"):
        if isinstance(name, str) and name not in pools:
            yield f'{paths.show(place)} = "{name}": there is no such pool'
