"""What the pages in docs/ name is there."""

import re
from pathlib import Path

import pytest

from tests.pages import ROOT, functions_of

PAGES = sorted((ROOT / "docs").glob("*.md"))


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


def test_the_pages_are_there() -> None:
    assert {page.name for page in PAGES} >= {"exactly-once.md", "threats.md"}
