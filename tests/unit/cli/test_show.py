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
