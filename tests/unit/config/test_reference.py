from pathlib import Path

from meshlb.config import reference

DOCUMENT = Path(__file__).parents[3] / "docs" / "configuration.md"


def test_the_reference_is_the_schemas() -> None:
    assert DOCUMENT.read_text(encoding="utf-8") == reference.render(), (
        "run `python -m meshlb.config.reference > docs/configuration.md`"
    )


def test_every_option_has_a_chapter_with_a_meaning() -> None:
    chapters = reference.render().split("\n### ")[1:]
    assert len(chapters) > 30
    for chapter in chapters:
        name, _, rest = chapter.partition("\n\n")
        assert not rest.startswith("- Allowed"), f"{name} has no meaning"
