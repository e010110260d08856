"""How a node logs: to stderr, for people in a terminal and as JSON elsewhere.

Owns the choice, so that further processes of the node can be told to log alike.
"""

import logging
import sys
from typing import Final

import structlog

LEVELS: Final = ("debug", "info", "warning", "error")
FORMATS: Final = ("auto", "text", "json")


chosen = {"level": "info", "form": "auto"}
"""What `configure` was last called with."""


def configure(*, level: str, form: str) -> None:
    """Set structlog up for this process; `form` is one of `FORMATS`."""
    chosen.update(level=level, form=form)
    in_colour = sys.stderr.isatty()
    as_text = form == "text" or (form == "auto" and in_colour)
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if as_text:
        shared.append(structlog.dev.ConsoleRenderer(colors=in_colour))
    else:
        shared += [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    structlog.configure(
        processors=shared,
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level.upper())),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=False,
    )
