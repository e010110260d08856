"""What every table of the file is: frozen, without unknown keys, its fields documented."""

from pydantic import BaseModel, ConfigDict

from meshlb.config.kinds import Text

LABEL = Text(
    r"[A-Za-z0-9._-]{1,63}", "1 to 63 characters, each a letter, a digit, or one of `.`, `_`, `-`"
)


class Table(BaseModel):
    """A table of the file. Frozen; a key it does not know is a fault."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
