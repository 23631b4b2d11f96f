"""docs/threats.md: what it claims is tested, by tests that exist."""

import re
from pathlib import Path

from tests.pages import ROOT, functions_of

THREATS = (ROOT / "docs" / "threats.md").read_text(encoding="utf-8")


def rows() -> list[list[str]]:
    """The rows of its tables, heads left out."""
    lines = [line for line in THREATS.splitlines() if line.startswith("| ")]
    found = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [row for row in found if row[0] != "threat"]


def test_every_threat_names_tests_and_they_exist() -> None:
    assert len(rows()) >= 20
    for row in rows():
        assert len(row) == 3, row
        threat, answer, proof = row
        assert answer, threat
        named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", proof)
        assert named, threat
        assert proof == ", ".join(f"`{file}::{test}`" for file, test in named), proof
        for file, test in named:
            assert test.startswith("test_")
            assert test in functions_of(file), f"{file}::{test}"


def test_every_test_of_this_folder_stands_for_a_threat() -> None:
    named = re.findall(r"`tests/outside/(\w+\.py)::\w+`", THREATS)
    for file in Path(__file__).parent.glob("test_*.py"):
        assert file.name in named or file.name == Path(__file__).name, file.name


def test_every_file_that_is_named_exists() -> None:
    for path in re.findall(r"(?<![\w/.])((?:streams|api|tests|deploy|docs)/[\w./-]*\w)", THREATS):
        assert (ROOT / path).exists(), path


def test_what_is_not_covered_is_said() -> None:
    _, _, rest = THREATS.partition("## Not covered")
    assert len(re.findall(r"^- ", rest, re.MULTILINE)) >= 5
