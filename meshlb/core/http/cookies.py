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


def take_cookie(values: list[bytes], name: bytes) -> tuple[bytes | None, list[bytes]]:
    """The value of the first cookie called `name`, and the Cookie fields without any such one.

    A field with nothing else in it is left out; the others are unchanged, or in the one form
    `a=b; c=d` where something was taken out of them.
    """
    taken, left = None, []
    for value in values:
        if name not in value:
            left.append(value)
            continue
        pairs = []
        for pair in value.split(b";"):
            key, _, content = pair.partition(b"=")
            if key.strip(b" \t") != name:
                pairs.append(pair.strip(b" \t"))
            elif taken is None:
                taken = content.strip(b" \t")
        if pairs:
            left.append(b"; ".join(pairs))
    return taken, left
