"""The kinds of value an option can have: how each is read, shown, and described.

A kind stands in an annotation, as in `Annotated[float, Duration("1s", "7d")]`. It is the one
place that knows what is allowed, so that a fault and the reference say it in the same words.
It must not know the options that use it (see `schema`), nor open what a path points to.
"""

import base64
import binascii
import ipaddress
import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from meshlb.config.units import parse_duration, parse_size, show_duration, show_size
from meshlb.model import Address

SECRET_BYTES: Final = 32
UNIX_PATH_BYTES_MAX: Final = 107
"""What fits in `sun_path` on Linux, less the final NUL."""

HOST_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,252}", re.ASCII)

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class UnixPath:
    """A Unix socket, as in `unix:/run/meshlb.sock`."""

    path: Path

    def __str__(self) -> str:
        return f"unix:{self.path}"


@dataclass(frozen=True, slots=True)
class DnsSeed:
    """A name all of whose addresses are members, as in `dns:meshlb.internal:7946`."""

    name: str
    port: int

    def __str__(self) -> str:
        return f"dns:{self.name}:{self.port}"


class Kind(ABC):
    """One kind of value; `allowed` completes the sentence "expected …"."""

    @property
    @abstractmethod
    def allowed(self) -> str:
        """What the option takes, range and example included."""

    @abstractmethod
    def read(self, raw: Any, directory: Path) -> Any:
        """The value for `raw`, as TOML gives it; paths are relative to `directory`.

        Raises:
            ValueError: if `raw` is not allowed.
        """

    def show(self, value: Any) -> str:
        """A value as it is written in the file, for the reference."""
        return f'"{value}"'

    def __get_pydantic_core_schema__(
        self, source: object, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Let pydantic read the annotated field through `read`."""

        def validate(raw: Any, context: core_schema.ValidationInfo) -> Any:
            return self.read(raw, (context.context or {}).get("directory", Path()))

        return core_schema.with_info_plain_validator_function(validate)


def _text(raw: Any) -> str:
    if not isinstance(raw, str):
        raise ValueError("not a string")
    return raw


@dataclass(frozen=True)
class Duration(Kind):
    """Seconds as a float, written with a unit."""

    least: str
    most: str

    @property
    def allowed(self) -> str:
        """The range, with the units."""
        return f"a duration from {self.least} to {self.most} (units: ms, s, m, h, d)"

    def read(self, raw: Any, directory: Path) -> float:
        """Seconds."""
        seconds = parse_duration(_text(raw))
        if not parse_duration(self.least) <= seconds <= parse_duration(self.most):
            raise ValueError("out of range")
        return seconds

    def show(self, value: float) -> str:
        """With the largest unit that divides it."""
        return f'"{show_duration(value)}"'


@dataclass(frozen=True)
class Size(Kind):
    """Bytes as an int, written with a unit."""

    least: str
    most: str

    @property
    def allowed(self) -> str:
        """The range, with the units."""
        return f"a size from {self.least} to {self.most} (units: B, KiB, MiB)"

    def read(self, raw: Any, directory: Path) -> int:
        """Bytes."""
        size_bytes = parse_size(_text(raw))
        if not parse_size(self.least) <= size_bytes <= parse_size(self.most):
            raise ValueError("out of range")
        return size_bytes

    def show(self, value: int) -> str:
        """With the largest unit that divides it."""
        return f'"{show_size(value)}"'


@dataclass(frozen=True)
class Whole(Kind):
    """A whole number."""

    least: int
    most: int

    @property
    def allowed(self) -> str:
        """The range."""
        return f"a whole number from {self.least} to {self.most}"

    def read(self, raw: Any, directory: Path) -> int:
        """The number; `true` is none, though Python's bool is an int."""
        if not isinstance(raw, int) or isinstance(raw, bool):
            raise ValueError("not a whole number")
        if not self.least <= raw <= self.most:
            raise ValueError("out of range")
        return raw

    def show(self, value: int) -> str:
        """Without quotes."""
        return str(value)


@dataclass(frozen=True)
class Workers(Whole):
    """A number of processes, or `auto` for one a core."""

    @property
    def allowed(self) -> str:
        """The range, and the word."""
        return f'{super().allowed}, or "auto"'

    def read(self, raw: Any, directory: Path) -> Any:
        """The number, or the word itself."""
        return raw if raw == "auto" else super().read(raw, directory)


@dataclass(frozen=True)
class Flag(Kind):
    """True or false."""

    @property
    def allowed(self) -> str:
        """The two words."""
        return "true or false"

    def read(self, raw: Any, directory: Path) -> bool:
        """The flag; no number and no string passes for one."""
        if not isinstance(raw, bool):
            raise ValueError("not a boolean")
        return raw

    def show(self, value: bool) -> str:
        """As TOML writes it."""
        return str(value).lower()


@dataclass(frozen=True)
class Choice(Kind):
    """One of a few words."""

    words: tuple[str, ...]
    become: type[str] = str

    @property
    def allowed(self) -> str:
        """The words."""
        return "one of " + ", ".join(f'"{word}"' for word in self.words)

    def read(self, raw: Any, directory: Path) -> str:
        """The word, as a member of the enumeration where there is one."""
        if _text(raw) not in self.words:
            raise ValueError("not one of the words")
        return self.become(raw)


@dataclass(frozen=True)
class Text(Kind):
    """A string that matches a pattern in full."""

    pattern: str
    description: str

    @property
    def allowed(self) -> str:
        """What the pattern means."""
        return self.description

    def read(self, raw: Any, directory: Path) -> str:
        """The string itself."""
        if re.fullmatch(self.pattern, _text(raw), re.ASCII) is None:
            raise ValueError("does not match")
        return str(raw)


@dataclass(frozen=True)
class FilePath(Kind):
    """A path; a relative one starts at the directory of the configuration file."""

    @property
    def allowed(self) -> str:
        """The rule for relative paths."""
        return "a path, absolute or relative to this file"

    def read(self, raw: Any, directory: Path) -> Path:
        """The path, made absolute; nothing is opened."""
        path = _text(raw)
        if not path or "\0" in path:
            raise ValueError("not a path")
        return directory / path


@dataclass(frozen=True)
class IpPort(Kind):
    """An IP address and a port; port 0 only where a free port may be taken."""

    port_least: int = 1

    @property
    def allowed(self) -> str:
        """The shape, with examples of both families."""
        return (
            f"an IP address and a port from {self.port_least} to 65535, "
            'such as "127.0.0.1:8080" or "[::1]:8080"'
        )

    def read(self, raw: Any, directory: Path) -> Any:
        """An `Address` in its shortest spelling."""
        address = Address.parse(_text(raw))
        if address.port < self.port_least:
            raise ValueError("port out of range")
        return Address(str(ipaddress.ip_address(address.host)), address.port)


@dataclass(frozen=True)
class IpPortOrUnix(IpPort):
    """An IP address and a port, or a Unix socket."""

    @property
    def allowed(self) -> str:
        """Both shapes."""
        return (
            f'{super().allowed}; or "unix:" and an absolute path of '
            f"at most {UNIX_PATH_BYTES_MAX} bytes"
        )

    def read(self, raw: Any, directory: Path) -> Any:
        """An `Address` or a `UnixPath`."""
        scheme, colon, rest = _text(raw).partition(":")
        if scheme != "unix" or not colon:
            return super().read(raw, directory)
        if not rest.startswith("/") or len(rest.encode()) > UNIX_PATH_BYTES_MAX or "\0" in rest:
            raise ValueError("not an absolute path that fits a socket address")
        return UnixPath(Path(rest))


@dataclass(frozen=True)
class SeedAddress(IpPort):
    """Where to find a member: an address, or a name in DNS."""

    @property
    def allowed(self) -> str:
        """Both shapes."""
        return f'{super().allowed}; or "dns:NAME:PORT"'

    def read(self, raw: Any, directory: Path) -> Any:
        """An `Address` or a `DnsSeed`."""
        if not _text(raw).startswith("dns:"):
            return super().read(raw, directory)
        address = Address.parse(raw.removeprefix("dns:"))
        if address.port < self.port_least or not HOST_NAME.fullmatch(address.host):
            raise ValueError("not a name and a port")
        return DnsSeed(address.host, address.port)


@dataclass(frozen=True)
class HostPort(IpPort):
    """An IP address or a host name, and a port."""

    @property
    def allowed(self) -> str:
        """The shape, with examples of both."""
        return (
            "an IP address or host name and a port from 1 to 65535, "
            'such as "10.0.0.7:9001" or "[::1]:9001"'
        )

    def read(self, raw: Any, directory: Path) -> Any:
        """An `Address`; a name is resolved when it is used, not here."""
        address = Address.parse(_text(raw))
        if HOST_NAME.fullmatch(address.host) and not address.host.replace(".", "").isdigit():
            if address.port < self.port_least:
                raise ValueError("port out of range")
            return address
        return super().read(raw, directory)


@dataclass(frozen=True)
class CidrBlock(Kind):
    """A network, or a single address."""

    @property
    def allowed(self) -> str:
        """The shape, with examples."""
        return 'a network or an address, such as "10.0.0.0/8" or "::1"'

    def read(self, raw: Any, directory: Path) -> Network:
        """The network; bits to the right of the mask are refused, not dropped."""
        return ipaddress.ip_network(_text(raw))


@dataclass(frozen=True)
class Secret(Kind):
    """32 random bytes in base64. Never shown."""

    @property
    def allowed(self) -> str:
        """The shape, and the command that makes one."""
        return f"the base64 of {SECRET_BYTES} bytes; `meshlb keygen` makes one"

    def read(self, raw: Any, directory: Path) -> bytes:
        """The bytes. The error says nothing of `raw`."""
        try:
            secret = raw if isinstance(raw, bytes) else base64.b64decode(_text(raw), validate=True)
        except binascii.Error:
            raise ValueError("not base64") from None
        if len(secret) != SECRET_BYTES:
            raise ValueError(f"not {SECRET_BYTES} bytes")
        return secret

    def show(self, value: bytes) -> str:
        """Never."""
        return "…"
