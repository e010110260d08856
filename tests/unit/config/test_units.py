import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshlb.config.units import parse_duration, parse_size, show_duration, show_size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("250ms", 0.25), ("10s", 10), ("1.5s", 1.5), ("20m", 1200), ("12h", 43200), ("7d", 604800)],
)
def test_a_duration_is_a_number_with_a_unit(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "10", "s", "-1s", "1 week", "1e3s", "١s", "1s1s", "nan s"])
def test_anything_else_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="no duration"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "size_bytes"), [("0B", 0), ("512B", 512), ("32KiB", 32_768), ("1MiB", 1_048_576)]
)
def test_a_size_is_a_whole_number_with_a_unit(text: str, size_bytes: int) -> None:
    assert parse_size(text) == size_bytes


@pytest.mark.parametrize("text", ["", "32", "32kb", "32KB", "1.5KiB", "-1B", "1GiB"])
def test_anything_else_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match="no size"):
        parse_size(text)


@given(st.integers(min_value=1, max_value=10**10))
def test_a_shown_duration_reads_back(milliseconds: int) -> None:
    seconds = milliseconds / 1_000
    assert parse_duration(show_duration(seconds)) == pytest.approx(seconds)


@given(st.integers(min_value=0, max_value=10**9))
def test_a_shown_size_reads_back(size_bytes: int) -> None:
    assert parse_size(show_size(size_bytes)) == size_bytes
