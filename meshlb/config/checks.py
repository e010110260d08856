"""What several options say together: the faults that no single value shows.

These read the document, not the settings, so that they are reported beside the faults of single
values and not only once those are mended. What has another shape than expected is passed over:
the schema reports that. Nothing here opens a file or a socket.
Contract: "Configuration (TOML)", the faults listed below the example.
"""

import ipaddress
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from meshlb.config import paths
from meshlb.config.faults import nearest, show_value
from meshlb.config.paths import Place
from meshlb.config.schema import ADMIN_ADDRESS, Settings
from meshlb.model import Address

SECRETS_MAX: Final = 8

SEPARATORS: Final = frozenset('()<>@,;:\\"/[]?={}')
"""What the names of cookies and header fields cannot hold (RFC 9110, 5.6.2)."""

Document = Mapping[str, Any]


def faults(document: Document) -> Iterator[str]:
    """A line for each fault of the document as a whole."""
    for check in CHECKS:
        yield from check(document)


def _value(place: Place, raw: Any) -> Any:
    """What the schema reads at `place`; None where it does not allow `raw`."""
    try:
        return paths.at(Settings, place).read(raw, Path())
    except ValueError:
        return None


def _keys(table: object) -> Mapping[str, Any]:
    return table if isinstance(table, Mapping) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _pools_have_backends(document: Document) -> Iterator[str]:
    for place, pool in paths.find(document, "pool.*"):
        if isinstance(pool, Mapping) and not pool.get("backend"):
            shown = paths.show(place)
            yield f"{shown}: has no backend; it needs at least one [[{shown}.backend]]"


def _names_are_unique(document: Document) -> Iterator[str]:
    for pattern in ("listener", "pool.*.backend"):
        for place, items in paths.find(document, pattern):
            seen: dict[str, int] = {}
            for index, item in enumerate(_list(items)):
                name = _keys(item).get("name")
                if not isinstance(name, str):
                    continue
                if name in seen:
                    here, first = paths.show((*place, index, "name")), (*place, seen[name])
                    yield f'{here} = "{name}": {paths.show(first)} has that name already'
                seen.setdefault(name, index)


def _listeners_know_their_pool(document: Document) -> Iterator[str]:
    pools = [str(name) for name in _keys(document.get("pool"))]
    for place, name in paths.find(document, "listener.*.pool"):
        if isinstance(name, str) and name not in pools:
            near = nearest(name, pools)
            hint = f'did you mean "{near}"?' if near else f"it would be [pool.{name}]"
            yield f'{paths.show(place)} = "{name}": there is no such pool; {hint}'


def _something_listens(document: Document) -> Iterator[str]:
    if not document.get("listener") and "cluster" not in document:
        yield "listener: there is none, and no [cluster]; a node needs at least one [[listener]]"


def _sticky_rules(document: Document) -> Iterator[str]:
    for place, rules in paths.find(document, "pool.*.sticky"):
        seen: dict[tuple[Any, Any], int] = {}
        for index, rule in enumerate(map(_keys, _list(rules))):
            here = (*place, index)
            yield from _sticky_name(here, rule.get("by"), rule.get("name"))
            yield from _sticky_times(here, rule)
            known_by = (str(rule.get("by")), str(rule.get("name")))
            if known_by in seen:
                first = paths.show((*place, seen[known_by]))
                yield f"{paths.show(here)}: is never reached, for {first} has its `by` and `name`"
            seen.setdefault(known_by, index)


def _sticky_name(place: Place, by: object, name: object) -> Iterator[str]:
    shown = paths.show((*place, "name"))
    if by == "source-ip" and name is not None:
        yield f"{shown}: an address has no name; leave it out"
    elif by in ("app-cookie", "header", "query", "path", "soap") and name is None:
        yield f"{shown}: required where `by` is {by}: the name to look for"
    elif by == "soap" and isinstance(name, str) and not name.startswith("{"):
        yield f'{shown} = "{name}": expected {{namespace}}local'
    elif by in ("cookie", "app-cookie", "header") and set(str(name)) & SEPARATORS:
        allowed = "letters, digits and !#$%&'*+-.^_`|~"
        yield f"{shown} = {show_value(name)}: expected a token of {allowed}"


def _sticky_times(place: Place, rule: Mapping[str, Any]) -> Iterator[str]:
    if "max_age" not in rule:
        return
    max_age_s = _value((*place, "max_age"), rule["max_age"])
    ttl_s = _value((*place, "ttl"), rule.get("ttl", "20m"))
    if max_age_s is not None and ttl_s is not None and max_age_s < ttl_s:
        shown = paths.show((*place, "max_age"))
        ttl = rule.get("ttl", "20m, the default")
        yield f'{shown} = "{rule["max_age"]}": expected at least `ttl`, which is {ttl}'


def _cluster_has_secrets(document: Document) -> Iterator[str]:
    cluster = document.get("cluster")
    if not isinstance(cluster, Mapping):
        return
    if "secrets" in cluster and "secrets_file" in cluster:
        yield "cluster: has both `secrets` and `secrets_file`; expected one of them"
    elif "secrets_file" not in cluster and not cluster.get("secrets"):
        yield (
            "cluster.secrets: required, or `secrets_file`: the members trust each other by a "
            "secret; `meshlb keygen` makes one"
        )
    if len(_list(cluster.get("secrets"))) > SECRETS_MAX:
        yield f"cluster.secrets: has too many; expected at most {SECRETS_MAX}"


def _cluster_can_be_reached(document: Document) -> Iterator[str]:
    cluster = _keys(document.get("cluster"))
    for key in ("bind", "advertise"):
        address = _value(("cluster", key), cluster.get(key))
        if isinstance(address, Address) and ipaddress.ip_address(address.host).is_unspecified:
            if key == "advertise":
                yield f'cluster.advertise = "{address}": expected an address that members can reach'
            elif "advertise" not in cluster:
                yield f'cluster.advertise: required, for `bind` = "{address}" is a wildcard'


def _admin_is_guarded(document: Document) -> Iterator[str]:
    admin = _keys(document.get("admin"))
    address = _value(("admin", "bind"), admin.get("bind"))
    if not isinstance(address, Address) or "token_file" in admin:
        return
    if not ipaddress.ip_address(address.host).is_loopback:
        yield (
            f'admin.token_file: required, for `bind` = "{address}" is neither loopback nor a '
            "Unix socket"
        )


def _addresses_are_unique(document: Document) -> Iterator[str]:
    bound: list[tuple[Place, Address, str]] = []
    admin = {"admin": {"bind": str(ADMIN_ADDRESS), **_keys(document.get("admin"))}}
    for pattern in ("cluster.bind", "admin.bind", "listener.*.bind"):
        for place, raw in paths.find({**document, **admin}, pattern):
            address = _value(place, raw)
            if not isinstance(address, Address) or address.port == 0:
                continue
            transports = _transports(document, place)
            for other_place, other, others in bound:
                if _collide(address, other) and set(transports) & set(others):
                    yield (
                        f'{paths.show(place)} = "{address}": {paths.show(other_place)} is bound '
                        f'to "{other}" already'
                    )
                    break
            bound.append((place, address, transports))


def _transports(document: Document, place: Place) -> str:
    """`t` for TCP, `u` for UDP: what is bound at `place`."""
    if place[0] == "cluster":
        return "tu"
    if place[0] == "admin":
        return "t"
    listener = _keys(_list(document.get("listener"))[int(place[1])])
    return "u" if listener.get("protocol") == "udp" else "t"


def _collide(one: Address, other: Address) -> bool:
    if one.port != other.port:
        return False
    first, second = ipaddress.ip_address(one.host), ipaddress.ip_address(other.host)
    if first == second:
        return True
    return first.version == second.version and (first.is_unspecified or second.is_unspecified)


def _udp_listeners(document: Document) -> Iterator[str]:
    for place, listener in paths.find(document, "listener.*"):
        if _keys(listener).get("protocol") != "udp":
            continue
        if _keys(listener).get("proxy_protocol"):
            yield f"{paths.show((*place, 'proxy_protocol'))}: a UDP listener has none; leave it out"
        name = _keys(listener).get("pool")
        pool = _keys(_keys(document.get("pool")).get(str(name)))
        health = _keys(pool.get("health"))
        if pool and "path" not in health and health.get("protocol") != "udp":
            yield (
                f'pool.{name}.health.protocol: expected "udp", or a `path`, for '
                f"{paths.show(place)} speaks UDP: a TCP connect tells nothing of its backends"
            )


CHECKS: Final[tuple[Callable[[Document], Iterator[str]], ...]] = (
    _cluster_has_secrets,
    _cluster_can_be_reached,
    _admin_is_guarded,
    _something_listens,
    _names_are_unique,
    _addresses_are_unique,
    _listeners_know_their_pool,
    _udp_listeners,
    _pools_have_backends,
    _sticky_rules,
)
