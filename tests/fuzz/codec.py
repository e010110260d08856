"""Two readers of one specification: `meshlb.wire` and the reference agree on any bytes.

What is no batch raises `WireError` and nothing else; what is one means the same to both, and is
the same again once it was written and read.

Input: a batch.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from meshlb.errors import WireError
from meshlb.wire import codec
from meshlb.wire.messages import Message
from protocol.reference import messages as reference
from protocol.reference.unpack import Malformed, TooDeep
from tests.vectors.test_vectors import as_json

VECTORS = Path(__file__).parents[2] / "protocol" / "vectors"


def check(given: bytes, decode: Callable[[bytes], tuple[Message, ...]] = codec.decode) -> None:
    """Raises what must not happen."""
    try:
        meant: list[dict[str, Any]] | None = reference.decode(given)
    except TooDeep:
        return  # either answer is right
    except Malformed:
        meant = None
    try:
        batch = decode(given)
    except WireError:
        assert meant is None, "only the reference accepts it"
        return
    assert [{"message": type(message).__name__, **as_json(message)} for message in batch] == meant
    written = codec.encode(batch)
    assert decode(written) == batch
    assert reference.decode(written) == meant


def seeds() -> Iterator[bytes]:
    vectors = json.loads((VECTORS / "messages.json").read_text(encoding="utf-8"))
    for vector in vectors["valid"] + vectors["malformed"]:
        yield bytes.fromhex(vector["hex"])
