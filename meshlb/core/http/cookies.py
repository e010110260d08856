"""Reading and removing one cookie in the raw values of Cookie fields (RFC 6265 section 5.4).

Owns the syntax of `name=value; name=value`. Browsers send nearly anything as a value, so nothing
is refused here; what a cookie means is for its owner.
"""

from collections.abc import Iterable


def find_cookie(values: Iterable[bytes], name: bytes) -> bytes | None:
    """The value of the first cookie called `name` (case matters) in Cookie field `values`."""
    for value in values:
        if name in value:
            for pair in value.split(b";"):
                key, equals, content = pair.partition(b"=")
                if equals and key.strip(b" \t") == name:
                    return content.strip(b" \t")
    return None


def remove_cookie(value: bytes, name: bytes) -> bytes:
    """The Cookie field `value` without the cookies called `name`; empty if none is left."""
    if name not in value:
        return value
    pairs = [pair.strip(b" \t") for pair in value.split(b";")]
    return b"; ".join(
        pair for pair in pairs if pair and pair.partition(b"=")[0].rstrip(b" \t") != name
    )
