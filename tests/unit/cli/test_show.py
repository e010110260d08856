import pytest

from meshlb.cli import show


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (59.4, "59 s"),
        (60, "1 min"),
        (1_180, "19 min 40 s"),
        (5_400, "1 h 30 min"),
        (172_800, "2 d"),
        (176_461, "2 d 1 h"),
    ],
)
def test_a_duration_has_its_two_largest_units(seconds: float, text: str) -> None:
    assert show.duration(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "now"), (1.4, "now"), (1.6, "2 s ago"), (90, "1 min 30 s ago")]
)
def test_what_was_a_moment_ago_is_now(seconds: float, text: str) -> None:
    assert show.ago_of(seconds) == text


@pytest.mark.parametrize(("count", "text"), [(0, "never"), (1, "once"), (2, "2 times")])
def test_how_often_is_said_as_people_say_it(count: int, text: str) -> None:
    assert show.times(count) == text


def test_names_are_text_and_never_markup(capsys: pytest.CaptureFixture[str]) -> None:
    show.facts({"node": "[red]lb-1[/red]"})
    show.line("[bold]x[/bold]")
    printed = capsys.readouterr().out
    assert "[red]lb-1[/red]" in printed
    assert "[bold]x[/bold]" in printed


def test_nothing_is_cut_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    key = "0123456789abcdef" * 2
    pin = {
        "key": key,
        "pool": "p" * 40,
        "backend": "b" * 40,
        "by": "app-cookie",
        "rank": "provisional",
        "made_by": "n" * 20,
        "epoch": 1,
        "expires_in_s": 60,
    }
    show.pins([pin])
    (row,) = [line for line in capsys.readouterr().out.splitlines() if key in line]
    assert "n" * 20 in row
    assert "…" not in row
