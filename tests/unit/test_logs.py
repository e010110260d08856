import json
from collections.abc import Iterator

import pytest
import structlog

from meshlb import logs


@pytest.fixture(autouse=True)
def _logs_as_before() -> Iterator[None]:
    yield
    structlog.reset_defaults()


def test_logs_are_json_where_nobody_watches(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(level="info", form="auto")
    structlog.get_logger().warning("peer refused", peer="lb-2")
    captured = capsys.readouterr()
    assert captured.out == ""
    line = json.loads(captured.err)
    assert (line["event"], line["level"], line["peer"]) == ("peer refused", "warning", "lb-2")
    assert line["timestamp"].endswith("Z")


def test_an_exception_is_a_field_of_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(level="info", form="json")
    try:
        raise ValueError("a bug")
    except ValueError:
        structlog.get_logger().exception("probe failed")
    (line,) = capsys.readouterr().err.splitlines()
    assert "ValueError: a bug" in json.loads(line)["exception"]


def test_what_is_below_the_level_is_not_logged(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(level="warning", form="text")
    structlog.get_logger().info("unimportant")
    structlog.get_logger().error("important")
    text = capsys.readouterr().err
    assert "unimportant" not in text
    assert "important" in text
