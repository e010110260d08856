"""What the documents promise names tests; the tests are there."""

import ast
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
DOCS = TESTS.parent / "docs"
NAMED = re.compile(r"`((?:\w+/)*test_\w+\.py)::(\w+)`")


def functions_of(path: Path) -> set[str]:
    """The names of all functions of a file, also those in classes."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in ast.walk(tree) if isinstance(node, functions)}


@pytest.mark.parametrize("name", ["security.md"])
def test_every_test_that_a_document_names_exists(name: str) -> None:
    named = NAMED.findall((DOCS / name).read_text(encoding="utf-8"))
    assert len(named) > 10
    missing = [
        f"{file}::{test}"
        for file, test in named
        if not (TESTS / file).is_file() or test not in functions_of(TESTS / file)
    ]
    assert missing == []
