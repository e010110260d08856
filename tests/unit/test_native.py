import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path

from meshlb.native import is_compiled
from meshlb.net import deadlines
from tests.native import REPOSITORY

MODULES = {path: ast.parse(path.read_text()) for path in (REPOSITORY / "meshlb").rglob("*.py")}
COMPILED = {
    REPOSITORY / "meshlb" / f"{module}.py"
    for module in tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["meshlb"][
        "compiled"
    ]
}


NATIVE = {
    node.name: node
    for path in COMPILED
    for node in ast.walk(MODULES[path])
    if isinstance(node, ast.ClassDef)
    and not any(isinstance(base, ast.Name) and base.id == "Protocol" for base in node.bases)
}


def names_of(classes: list[ast.expr]) -> Iterator[str]:
    for base in classes:
        inner = base.value if isinstance(base, ast.Subscript) else base
        if isinstance(inner, ast.Name):
            yield inner.id


def test_the_program_says_whether_it_was_compiled() -> None:
    assert is_compiled() == (Path(deadlines.__file__).suffix != ".py")


def test_every_module_that_is_to_be_compiled_exists() -> None:
    assert COMPILED
    assert not {path for path in COMPILED if path not in MODULES}


def test_what_derives_from_a_compiled_class_is_compiled_itself() -> None:
    """Else it cannot be made, and that shows only when the first one is."""
    derived = [
        f"{path.name}: {node.name}"
        for path in MODULES.keys() - COMPILED
        for node in ast.walk(MODULES[path])
        if isinstance(node, ast.ClassDef) and NATIVE.keys() & set(names_of(node.bases))
    ]
    assert not derived


def test_no_native_class_can_be_called_whose_base_cannot() -> None:
    """mypyc 2.4 gives it a field in front of those of its base, which then writes over them."""
    added = [
        node.name
        for node in NATIVE.values()
        if NATIVE.keys() & set(names_of(node.bases))
        and any(isinstance(item, ast.FunctionDef) and item.name == "__call__" for item in node.body)
    ]
    assert not added
