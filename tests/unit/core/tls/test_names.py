import re

import pytest

from meshlb.core.tls.names import PATTERN, ServerNames, is_name


@pytest.fixture
def names() -> ServerNames[str]:
    return ServerNames(
        {"example.com": "apex", "*.example.com": "any", "WWW.example.com": "www", "*.a.b": "deep"}
    )


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("example.com", "apex"),
        ("www.example.com", "www"),
        ("Www.Example.Com", "www"),
        ("www.example.com.", "www"),
        ("other.example.com", "any"),
        ("x.a.b", "deep"),
        ("x.y.example.com", None),
        ("a.b", None),
        ("com", None),
        ("", None),
        ("*.example.com", "any"),
    ],
)
def test_an_exact_name_wins_and_a_star_stands_for_one_label(
    names: ServerNames[str], name: str, found: str | None
) -> None:
    assert names.find(name) == found


@pytest.mark.parametrize("name", ["a", "a.example", "xn--mnchen-3ya.de", "_srv.example", "1.2"])
def test_what_can_be_a_name(name: str) -> None:
    assert is_name(name)
    assert is_pattern(name)


@pytest.mark.parametrize(
    "name",
    ["", ".", "a.", ".a", "a..b", "-a.b", "a-.b", "a b", "ä.de", "a\n", "x" * 64, "a." * 127],
)
def test_what_cannot_be_a_name(name: str) -> None:
    assert not is_name(name)


def is_pattern(pattern: str) -> bool:
    return re.fullmatch(PATTERN, pattern) is not None


def test_a_star_is_a_whole_first_label_before_at_least_two_others() -> None:
    assert is_pattern("*.example.com")
    assert not is_name("*.example.com")
    for pattern in ("*", "*.com", "a*.example.com", "a.*.example.com", "*.*.example.com"):
        assert not is_pattern(pattern), pattern
