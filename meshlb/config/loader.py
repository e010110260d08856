"""Reads a configuration file into `Settings`, or says all that is wrong with it at once.

Owns the way from text to settings and the wording of the faults; what is allowed is the word of
`kinds`, `checks` and `unsupported`. It reads the file and the files that this names; it opens no
port, so it passes beside a running node.
"""

import socket
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from meshlb.config import certificates, checks, faults, paths, tls_faults, unsupported
from meshlb.config.kinds import Secret
from meshlb.config.schema import Settings
from meshlb.errors import ConfigError

FILE_BYTES_MAX: Final = 4 << 20


def load(path: Path | str) -> Settings:
    """The settings in the file at `path`; relative paths in it start at its directory.

    Raises:
        ConfigError: with a line for every fault of the file.
    """
    path = Path(path).absolute()
    try:
        text = _read(path)
    except ValueError as error:
        raise ConfigError([str(error)]) from None
    return parse(text, directory=path.parent)


def parse(text: str, *, directory: Path) -> Settings:
    """The settings in `text`; relative paths in it start at `directory`.

    Raises:
        ConfigError: with a line for every fault of the text.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError([f"no valid TOML: {error}"]) from None
    for name in ("node", "admin"):
        document.setdefault(name, {})
    found = [*checks.faults(document), *unsupported.faults(document)]
    found += _read_named_files(document, directory)
    found += tls_faults.faults(document, directory)
    try:
        settings = Settings.model_validate(document, context={"directory": directory})
    except ValidationError as error:
        details = error.errors(include_url=False, include_context=False)
        found += map(faults.from_error, details)
        raise ConfigError(faults.in_order(found)) from None
    if found:
        raise ConfigError(faults.in_order(found))
    return settings


def read_token(path: Path) -> str:
    """The token in a `token_file`, without the white space around it.

    Raises:
        ValueError: if the file cannot be read, is empty, or holds more than a token.
    """
    token = _read(path).strip()
    if not token.isascii() or not token.isprintable() or not token or " " in token:
        raise ValueError(f"{path}: expected one token of printable ASCII")
    return token


def read_secrets(path: Path) -> list[bytes]:
    """The secrets in a `secrets_file`, first to last.

    Raises:
        ValueError: if the file cannot be read, or a line is no secret; it names the line only.
    """
    secrets: list[bytes] = []
    for number, line in enumerate(_read(path).splitlines(), start=1):
        if line.strip() and not line.startswith("#"):
            try:
                secrets.append(Secret().read(line.strip(), path.parent))
            except ValueError:
                allowed = Secret().allowed
                raise ValueError(f"{path}, line {number}: expected {allowed}") from None
    if not 1 <= len(secrets) <= checks.SECRETS_MAX:
        raise ValueError(f"{path}: has {len(secrets)} secrets, expected 1 to {checks.SECRETS_MAX}")
    return secrets


def _read(path: Path) -> str:
    """The text of a small file; ValueError names the file and the reason."""
    try:
        with path.open("rb") as file:
            content = file.read(FILE_BYTES_MAX + 1)
        if len(content) > FILE_BYTES_MAX:
            raise ValueError(f"{path}: larger than {FILE_BYTES_MAX >> 20} MiB")
        return content.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: no UTF-8 at byte {error.start}") from None
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror or error}") from None


def _read_named_files(document: dict[str, Any], directory: Path) -> Iterator[str]:
    """Read what the document names; secrets take their place in it. Yields a line a fault."""
    for place, raw in paths.find(document, "admin.token_file"):
        if isinstance(raw, str):
            try:
                read_token(directory / raw)
            except ValueError as error:
                yield f"{paths.show(place)}: {error}"
    for place, raw in paths.find(document, "cluster.secrets_file"):
        if isinstance(raw, str) and "secrets" not in document["cluster"]:
            try:
                document["cluster"]["secrets"] = read_secrets(directory / raw)
            except ValueError as error:
                yield f"{paths.show(place)}: {error}"
    for _, table in paths.find(document, "cluster.tls"):
        if isinstance(table, dict):
            name = document["node"].get("name", socket.gethostname())
            yield from certificates.faults(table, directory, node_name=str(name))
    for place, raw in paths.find(document, "node.data_dir"):
        if isinstance(raw, str) and (directory / raw).exists() and not (directory / raw).is_dir():
            yield f"{paths.show(place)}: {directory / raw} is no directory"
