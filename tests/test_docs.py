"""What the pages in docs/ name is there; where README.md and they link to, there is something."""

import re
from pathlib import Path

import pytest

from streams.domain.transitions import diagram
from tests.pages import ROOT, anchors, between, functions_of, names_in

PAGES = sorted((ROOT / "docs").glob("*.md"))
LINKING = [ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "deploy" / "README.md", *PAGES]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_test_that_is_named_exists(page: Path) -> None:
    named = re.findall(r"(tests/[\w/]+\.py)::(\w+)", page.read_text(encoding="utf-8"))
    assert named
    for file, test in named:
        assert test in functions_of(file), f"{file}::{test}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_that_is_named_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for path in set(re.findall(r"(?<![\w/.])((?:streams|api|tests|deploy)/[\w./-]*\w)", text)):
        assert (ROOT / path).exists(), path
    for link in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (page.parent / link).exists(), link


@pytest.mark.parametrize("page", LINKING, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_leads_to_a_file_and_to_a_heading_in_it(page: Path) -> None:
    text = re.sub(r"(?ms)^ *```.*?^ *```$", "", page.read_text(encoding="utf-8"))
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        path, _, anchor = link.partition("#")
        if ":" not in path:
            target = page.parent / path if path else page
            assert target.exists(), link
            assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("page", LINKING, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_name_in_the_code_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    named = re.findall(r"(?<![\w/])((?:streams|api)/[\w/]+\.py)::([\w.]*\w)", text)
    assert named or page.name != "design.md"
    for file, name in named:
        assert name in names_in(file), f"{file}::{name}"
    # The same class once more, without its module.
    classes = {name.partition(".")[0]: names_in(file) for file, name in named}
    for name in re.findall(r"`([A-Z]\w+\.\w+)`", text):
        assert name in classes.get(name.partition(".")[0], {name}), name


def test_every_page_is_in_the_list_of_documents() -> None:
    linked = re.findall(r"\]\(docs/([\w-]+\.md)\)", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert {page.name for page in PAGES} <= set(linked)


def test_the_pages_are_there() -> None:
    assert {page.name for page in PAGES} >= {"design.md", "exactly-once.md", "guarantees.md", "limits.md", "threats.md"}


def test_the_states_of_a_command_are_those_of_the_table() -> None:
    """Put the output of `python -m streams.domain.transitions` into docs/design.md."""
    page = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    assert between("states", page) == f"```mermaid\n{diagram()}\n```"
