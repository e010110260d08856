"""The tests that documents name are there, and what documents list is all that there is."""

import ast
import base64
import dataclasses
import functools
import importlib
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from starlette.routing import Route

from meshlb.admin import view
from meshlb.admin.api import build_app
from meshlb.admin.metrics import Meters, NodeMetrics
from meshlb.cli import main
from meshlb.config import load
from tests.fakes.node import FakeNode

TESTS = Path(__file__).parent
DOCS = TESTS.parent / "docs"
PROTOCOL = TESTS.parent / "protocol"
NAMED = re.compile(r"`((?:\w+/)*test_\w+\.py)::(\w+)`")
TIME = re.compile(r"^\| ([\d.]+) \| .* \| `([\w.]+)` \|$", re.MULTILINE)
RULE = re.compile(r"^- \*\*([A-Z]\d+)\*\* ", re.MULTILINE)


@functools.cache
def functions_of(path: Path) -> set[str]:
    """The names of all functions of a file, also those in classes."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in ast.walk(tree) if isinstance(node, functions)}


def is_there(file: str, test: str) -> bool:
    return (TESTS / file).is_file() and test in functions_of(TESTS / file)


@pytest.mark.parametrize("name", ["architecture.md", "guarantees.md", "security.md"])
def test_every_test_that_a_document_names_exists(name: str) -> None:
    named = set(NAMED.findall((DOCS / name).read_text(encoding="utf-8")))
    assert len(named) > 10
    missing = sorted(f"{file}::{test}" for file, test in named if not is_there(file, test))
    assert missing == []


def constant(path: str) -> float:
    """The number that a dotted path below `meshlb` leads to."""
    value: Any = importlib.import_module("meshlb")
    for name in path.split("."):
        if not hasattr(value, name):
            importlib.import_module(f"{value.__name__}.{name}")
        value = getattr(value, name)
    return float(value)


def test_the_times_of_the_guarantees_are_those_of_the_code() -> None:
    times = TIME.findall((DOCS / "guarantees.md").read_text(encoding="utf-8"))
    assert len(times) > 10
    assert [(said, path) for said, path in times if float(said) != constant(path)] == []


def test_every_limit_that_the_architecture_lists_is_there() -> None:
    text = (DOCS / "architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| [^|]+ \| (`[^|]+) \|", text.partition("## Limits")[2], re.MULTILINE)
    limits = 0
    for row in rows:
        before = ""
        for name in re.findall(r"`([\w.]+)`", row):
            # A name alone is of the module before it, `barrier.MARKS_MAX` of its package.
            depth = len(before.split(".")) - len(name.split("."))
            path = ".".join([*before.split(".")[: max(0, depth)], name])
            if name.isupper() or name.rpartition(".")[2].isupper():
                assert constant(path) > 0, path
                limits += 1
                before = path
    assert limits > 30


# The protocol ------------------------------------------------------------------------------


def rules() -> list[str]:
    """All rules of the specification, as scenarios cite them: the file and the number."""
    return [
        f"{path.stem} {number}"
        for path in sorted((PROTOCOL / "spec").glob("*.md"))
        for number in RULE.findall(path.read_text(encoding="utf-8"))
    ]


def shown() -> set[str]:
    """The rules that scenarios cite."""

    def cited(value: Any) -> Iterator[str]:
        if isinstance(value, dict):
            yield from value.get("shows", ())
            for inner in value.values():
                yield from cited(inner)
        elif isinstance(value, list):
            for inner in value:
                yield from cited(inner)

    files = (PROTOCOL / "scenarios").glob("*.toml")
    return {rule for file in files for rule in cited(tomllib.loads(file.read_text("utf-8")))}


def held() -> dict[str, list[str]]:
    """The rules that `coverage.toml` names tests for."""
    index = tomllib.loads((PROTOCOL / "coverage.toml").read_text(encoding="utf-8"))
    return {
        f"{file} {number}": tests
        for file, numbers in index.items()
        for number, tests in numbers.items()
    }


def test_no_two_rules_of_a_specification_have_one_number() -> None:
    assert len(rules()) == len(set(rules())) > 100


def test_every_rule_is_shown_by_a_scenario_or_held_by_a_named_test() -> None:
    bare = [rule for rule in rules() if rule not in shown() and rule not in held()]
    assert bare == [], "cite them in protocol/scenarios, or name a test in protocol/coverage.toml"


def test_whatever_is_shown_or_held_is_a_rule() -> None:
    assert sorted((shown() | held().keys()) - set(rules())) == []


def test_every_test_that_the_index_of_rules_names_exists() -> None:
    missing = [
        f"{rule}: {test}"
        for rule, tests in held().items()
        for test in tests
        if not is_there(*test.split("::"))
    ]
    assert missing == []


# Steering ----------------------------------------------------------------------------------

STEERING = (DOCS / "steering.md").read_text(encoding="utf-8")


def commands(group: click.Group, before: str = "meshlb") -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, f"{before} {name}")
        else:
            yield f"{before} {name}", command


def test_the_page_on_steering_has_every_command_and_option_and_no_other() -> None:
    rows = dict(re.findall(r"^\| `(meshlb [a-z]+(?: [a-z]+)?)[^`]*` \| (.*) \|$", STEERING, re.M))
    known = dict(commands(main))
    assert rows.keys() == known.keys()
    of_all = {"--admin", "--token-file", "--json"}
    for name, command in known.items():
        options = {
            option
            for parameter in command.params
            if isinstance(parameter, click.Option)
            for option in (*parameter.opts, *parameter.secondary_opts)
        }
        assert set(re.findall(r"`(--[a-z-]+)`", rows[name])) == options - of_all, name


def test_the_page_on_steering_has_every_path_of_the_admin_api_and_no_other() -> None:
    rows = set(re.findall(r"^\| ([A-Z]+) \| `(/[^`]*)` \|", STEERING, re.MULTILINE))
    routes = {
        (method, route.path)
        for route in build_app(FakeNode()).routes
        if isinstance(route, Route)
        for method in (route.methods or set()) - {"HEAD"}
    }
    assert rows == routes


def test_the_page_on_steering_has_every_field_of_every_answer() -> None:
    shapes = [
        shape
        for shape in vars(view).values()
        if dataclasses.is_dataclass(shape) and shape.__module__ == view.__name__
    ]
    fields = {field.name for shape in shapes for field in dataclasses.fields(shape)}
    assert len(fields) > 40
    words = set(re.findall(r"`(\w+)`", STEERING))
    assert sorted(fields - words) == []


def test_the_page_on_steering_has_every_metric_and_no_other() -> None:
    rows = dict(re.findall(r"^\| `(meshlb_\w+)` \| (\w+) \|", STEERING, re.MULTILINE))
    assert rows == {family.name: family.type for family in NodeMetrics(Meters).collect()}


# Links -------------------------------------------------------------------------------------

PAGES = sorted(
    page.relative_to(TESTS.parent)
    for folder in (".", "docs", "docs/adr", "docker", "protocol", "protocol/*")
    for page in TESTS.parent.glob(f"{folder}/*.md")
)
LINK = re.compile(r"\]\(([^)#\s]*)(?:#([^)\s]+))?\)")


@functools.cache
def anchors(page: Path) -> set[str]:
    """What the headings of a page are called in links."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    words = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings]
    return {word.replace(" ", "-") for word in words}


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    path = TESTS.parent / page
    lost = []
    for target, anchor in LINK.findall(path.read_text(encoding="utf-8")):
        if "://" in target:
            continue
        to = path.parent / target if target else path
        if not to.exists() or (anchor and anchor not in anchors(to)):
            lost.append(f"{target}#{anchor}")
    assert lost == []


def test_the_configuration_of_the_readme_is_good(tmp_path: Path) -> None:
    (text,) = re.findall(
        r"```toml\n(.*?)```", (TESTS.parent / "README.md").read_text("utf-8"), re.DOTALL
    )
    secret, config = tmp_path / "meshlb.secret", tmp_path / "meshlb.toml"
    secret.write_text(base64.b64encode(bytes(32)).decode())
    config.write_text(text.replace("/etc/meshlb.secret", str(secret)))
    assert list(load(config).pools) == ["app"]
