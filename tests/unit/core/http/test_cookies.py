"""One cookie among others, found and taken out."""

import pytest

from meshlb.core.http.cookies import find_cookie, take_cookie


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ([b"a=1"], b"1"),
        ([b"b=2; a=1"], b"1"),
        ([b"b=2", b"c;a = 1 "], b"1"),
        ([b"a=1; a=2", b"a=3"], b"1"),
        ([b'a="x=y"'], b'"x=y"'),
        ([b"a="], b""),
        ([b"a"], None),
        ([b"A=1; ab=2; ba=3; b=a"], None),
        ([], None),
    ],
)
def test_the_first_of_a_name_is_found(values, found):
    assert find_cookie(values, b"a") == found


@pytest.mark.parametrize(
    ("values", "taken", "left"),
    [
        ([b"a=1"], b"1", []),
        ([b"b=2;a=1;c=3"], b"1", [b"b=2; c=3"]),
        ([b"a=1; b=2; a=3", b"a=4"], b"1", [b"b=2"]),
        ([b"b=2;  c", b"a=1"], b"1", [b"b=2;  c"]),
        ([b"xa=1;ax=2"], None, [b"xa=1; ax=2"]),
        ([], None, []),
    ],
)
def test_all_of_a_name_are_taken_out(values, taken, left):
    assert take_cookie(values, b"a") == (taken, left)
