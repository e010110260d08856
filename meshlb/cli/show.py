"""What people see: the admin API's answers as tables. Knows no transport and no command."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

MOVES_SHOWN: Final = 10
"""Pins that moved in one heal, unless all are asked for."""

JUST_NOW_S: Final = 1.5
"""Tables are compared every second or so."""

WIDTH_IN_A_PIPE: Final = 200
"""Wide enough that nothing wraps where `grep` reads."""

STYLES: Final = {
    "alive": "green",
    "sealing": "green",
    "up": "green",
    "quorate": "green",
    "suspect": "yellow",
    "draining": "yellow",
    "minority": "yellow",
    "provisional": "yellow",
    "dead": "bold red",
    "missing": "bold red",
    "down": "bold red",
    "left": "dim",
    "maintenance": "dim",
}

Fields = Mapping[str, Any]


def console() -> Console:
    """Where people read; wide where it is no terminal."""
    made = Console(highlight=False)
    if not made.is_terminal:
        made.width = WIDTH_IN_A_PIPE
    return made


def _print(what: RenderableType) -> None:
    console().print(what)


def line(text: str) -> None:
    """One line, taken literally."""
    _print(Text(text))


def facts(named: Mapping[str, str]) -> None:
    """A name and a value a line."""
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for name, value in named.items():
        table.add_row(Text(name, style="dim"), Text(value))
    _print(table)


def state(word: str) -> Text:
    """A state in its colour; the word itself says it too."""
    return Text(word, style=STYLES.get(word, ""))


def duration(seconds: float) -> str:
    """The two largest units: `1 h 30 min`."""
    rest = round(seconds)
    parts = []
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)):
        count, rest = divmod(rest, size)
        if count:
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2]) or "0 s"


def ago_of(seconds: float) -> str:
    """How long ago something was."""
    return "now" if seconds < JUST_NOW_S else f"{duration(seconds)} ago"


def times(count: int) -> str:
    """How often something has happened."""
    return {0: "never", 1: "once"}.get(count, f"{count} times")


def grid(*columns: str, title: str | None = None) -> Table:
    """An empty table; a column whose name begins with `#` holds numbers."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold", title=title)
    table.title_justify = "left"
    for column in columns:
        is_number = column.startswith("#")
        table.add_column(column.lstrip("#"), justify="right" if is_number else "left")
    return table


def members(listed: Sequence[Fields]) -> None:
    """The members, this node marked."""
    _print(members_table(listed))


def members_table(listed: Sequence[Fields]) -> Table:
    """A row a member."""
    table = grid("member", "state", "#for", "address", "stick table", "#incarnation", "boot id")
    for member in listed:
        name = Text(member["name"], style="bold" if member["is_self"] else "")
        if member["is_self"]:
            name.append(" (this node)", style="dim")
        table.add_row(
            name,
            state(member["state"]),
            duration(member["for_s"]),
            Text(member["address"]),
            _stick_table(member),
            str(member["incarnation"]),
            Text(member["boot_id"], style="dim"),
        )
    return table


def _stick_table(member: Fields) -> Text:
    """What the member says of its table, and what this node has found out by comparing."""
    if member["state"] in ("dead", "left"):
        return Text("unknown", style="dim")
    if not member["synced"]:
        return Text("behind", style="yellow")
    sync = member.get("sync")
    if sync is None:
        return Text("in sync")
    ago = f"as of {ago_of(sync['age_s'])}"
    if not sync["differing_keys"]:
        return Text(f"in sync {ago}")
    return Text(f"{sync['differing_keys']:,} keys differed {ago}", style="yellow")


def table_of(status: Fields) -> str:
    """What a node says of its own table, and with whom it was compared last."""
    if not status["in_sync"]:
        return "behind"
    if not status["sync"]:
        return "in sync"
    alike = [(sync["age_s"], peer) for peer, sync in status["sync"].items()]
    differing = sum(sync["differing_keys"] for sync in status["sync"].values())
    age_s, peer = min(alike)
    if differing == 0:
        return f"in sync, equal to that of {peer} as of {ago_of(age_s)}"
    return f"in sync; {differing:,} keys differed when last compared, see `meshlb members`"


def heals(listed: Sequence[Fields], *, moves_max: int | None) -> None:
    """The latest first: who came back, and the pins that moved."""
    for heal in reversed(listed):
        names = ", ".join(heal["members"])
        state_now = "" if heal["over"] else ", going on"
        line(f"{moment(heal['at'])}  {names} came back{state_now}; {moved(heal['pins_moved'])}")
        shown = heal["moves"][:moves_max]
        for move in shown:
            gone_to = move["moved_to"] or "unpinned"
            line(f"  {move['key']}  pool {move['pool']}  {move['moved_from']} → {gone_to}")
        if more := heal["pins_moved"] - len(shown):
            line(f"  and {more:,} more")


def moved(count: int) -> str:
    """How many pins have moved."""
    return f"{count:,} pin{'' if count == 1 else 's'} moved" if count else "no pin moved"


def pools(listed: Sequence[Fields]) -> None:
    """A table a pool."""
    _print(Group(*map(pool_table, listed)))


def pool_table(pool: Fields) -> Table:
    """A row a backend."""
    table = grid(
        "backend", "state", "address", "#weight", "#connections", "#pins", "", title=pool["name"]
    )
    for backend in pool["backends"]:
        table.add_row(
            Text(backend["name"]),
            state(backend["state"]),
            Text(backend["address"]),
            str(backend["weight"]),
            f"{backend['connections']:,}",
            f"{backend['pins']:,}",
            Text(_why(backend), style="dim"),
        )
    return table


def _why(backend: Fields) -> str:
    """Who has put a backend into its state and when, and what the last probe found."""
    reasons = [backend["reason"]] if backend["reason"] else []
    order = backend.get("order")
    if order is not None and order["state"] != "up":
        reasons.insert(0, f"ordered at {order['by']}, {moment(order['at'])}")
    return "; ".join(reasons)


def moment(iso: str) -> str:
    """A time as people write it, to the second."""
    return f"{datetime.fromisoformat(iso).astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def pins(listed: Sequence[Fields]) -> None:
    """A row a pin."""
    table = grid(
        "key (hashed)", "pool", "backend", "by", "rank", "made by", "#moves", "#expires in"
    )
    for pin in listed:
        table.add_row(
            Text(pin["key"]),
            Text(pin["pool"]),
            Text(pin["backend"]),
            pin["by"],
            state(pin["rank"]),
            Text(pin["made_by"]),
            str(pin["epoch"]),
            duration(pin["expires_in_s"]),
        )
    _print(table)


def keys(listed: Sequence[Fields]) -> None:
    """A row a secret, a column a member."""
    members = list(dict.fromkeys(name for key in listed for name in key["members"]))
    table = grid("key", *members)
    for key in listed:
        uses = [state(key["members"].get(name, "unknown")) for name in members]
        table.add_row(Text(key["id"], style="bold" if key["sealing"] else ""), *uses)
    _print(table)
