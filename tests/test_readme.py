"""What README.md and its pages say is so: their tests exist, their examples are taken, their tables are complete."""

import json
import os
import re
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from api.app import create_app
from api.commands import ENDPOINTS, STATUS_PATH
from api.control_v1 import Change
from api.models import CommandStatus
from streams.domain.command import parse_command
from streams.domain.envelope import parse_envelope
from streams.domain.returned import ReturnReason
from streams.domain.topic import topic_of
from streams.settings.settings import Settings, settings_table
from streams.settings.sources import NOT_SETTINGS
from tests.pages import ROOT, between, functions_of
from tests.support.patience import WAIT_S

README = (ROOT / "README.md").read_text(encoding="utf-8")
DEPLOY_README = (ROOT / "deploy" / "README.md").read_text(encoding="utf-8")
PAGES = {page.stem: page.read_text(encoding="utf-8") for page in (ROOT / "docs").glob("*.md")}
"""By name, without the ending."""
README_BYTES = 12_288


def blocks(language: str, text: str) -> list[str]:
    return re.findall(rf"(?ms)^```{language}\n(.*?)^```$", text)


def rows(table: str) -> list[list[str]]:
    """The cells of a Markdown table's rows, without its head."""
    lines = [line for line in table.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def shell_lines(text: str) -> list[str]:
    """The commands in the shell examples, each on one line and without its remark."""
    lines = "\n".join(blocks("sh", text)).replace("\\\n", " ").splitlines()
    return [shlex.join(shlex.split(line, comments=True)) for line in lines if line.strip()]


# ---- tests and files


def test_the_readme_is_short() -> None:
    assert len(README.encode()) <= README_BYTES


def test_every_guarantee_names_tests_and_they_exist() -> None:
    guarantees = rows(between("guarantees", PAGES["guarantees"]))
    assert len(guarantees) >= 10
    for guarantee, how, proof in guarantees:
        assert how, guarantee
        named = re.findall(r"(tests/[\w/]+\.py)::(\w+)", proof)
        assert named, guarantee
        for file, test in named:
            assert test in functions_of(file), f"{file}::{test}"
            assert test.startswith("test_")


def test_the_readme_has_each_guarantee_with_one_of_its_tests() -> None:
    short, full = rows(between("guarantees", README)), rows(between("guarantees", PAGES["guarantees"]))
    assert [guarantee for guarantee, _ in short] == [guarantee for guarantee, _, _ in full]
    for (guarantee, test), (_, _, proof) in zip(short, full, strict=True):
        assert test in proof.split(", "), guarantee


def test_every_file_that_is_named_exists() -> None:
    linked = re.findall(r"\]\(([^)#:]+)\)", README)
    assert linked
    named = re.findall(r"(?<![\w/.])((?:streams|api|tests|deploy)/[\w./-]*)", README + DEPLOY_README)
    for path in {*linked, *named}:
        assert (ROOT / path.rstrip(".")).exists(), path


def test_the_file_map_leaves_out_nothing() -> None:
    mapped = re.findall(r"`((?:streams|api|tests|deploy)/[\w./]*)`", PAGES["design"])
    for module in sorted((ROOT / "streams").iterdir()):
        if module.name in ("__init__.py", "__pycache__", "py.typed"):
            continue
        assert f"streams/{module.name}{'/' if module.is_dir() else ''}" in mapped, module.name


def test_make_knows_what_is_to_be_made() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    named = re.findall(r"(?m)(?:`|^    )make ([a-z]+)", README)
    named += re.findall(r"(?m)^make ([a-z]+)", "\n".join(shell_lines(README)))
    assert {"demo", "test", "up", "check", "bench"} <= set(named)
    for target in named:
        assert re.search(rf"(?m)^{target}:", makefile), target


def test_who_only_runs_it_installs_no_tools() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    needs = dict(re.findall(r"(?m)^([a-z]+): \$\((\w+)\) ##", makefile))
    assert {target for target, need in needs.items() if need == "NATIVE"} == {"install", "demo", "up"}
    assert {target for target, need in needs.items() if need == "TOOLS"} == {
        *("test", "quick", "check", "format", "bench", "faults", "fuzz")
    }
    extras = re.findall(r"(?ms)^\$\((\w+)\): [^\n]*\n(?:\t[^\n]*\n)*?\t\$\(call pip,\.\[(\w+)\]", makefile)
    assert extras == [("INSTALLED", "embedded"), ("TOOLS", "dev")]


# ---- tables


def test_the_settings_are_those_of_today() -> None:
    assert between("settings", PAGES["settings"]) == settings_table(), (
        "put the output of `python -m streams.settings.settings` into docs/settings.md"
    )


def test_every_variable_exists() -> None:
    known = {f"XFERQ_{name.upper()}" for name in Settings.model_fields} | NOT_SETTINGS
    for text in (README, DEPLOY_README, *PAGES.values()):
        for name in re.findall(r"XFERQ_[A-Z0-9]+(?:_[A-Z0-9]+)*", text):
            assert name in known, name


def test_the_status_table_has_every_field() -> None:
    _, _, section = PAGES["using"].partition("## Status\n")
    table, _, _ = section.partition("\n## ")
    fields = [name for row in rows(table) for name in re.findall(r"`(\w+)`", row[0])]
    assert sorted(fields) == sorted(CommandStatus.model_fields)


def test_every_state_and_reason_is_named() -> None:
    states = CommandStatus.model_json_schema()["properties"]["state"]["enum"]
    for name in [*states, *(reason.value for reason in ReturnReason)]:
        assert f"`{name}`" in PAGES["using"], name


# ---- examples


def test_the_example_of_a_topic() -> None:
    assert f"`mytenant@example.com` is `{topic_of('mytenant@example.com')}`" in PAGES["kafka"]


def test_the_json_is_what_xferq_takes() -> None:
    kinds = []
    for block in blocks("json", PAGES["using"] + PAGES["kafka"]):
        value = json.loads(block)
        if "type" in value:
            kinds.append(parse_command(block.encode(), fallback_id="x").type)
        else:
            kinds.append("envelope")
            parse_envelope(block.encode())
    assert kinds == ["xfer.cancel", "xfer.start", "envelope"]


@cache
def openapi() -> dict[str, Any]:
    return create_app(Settings(bootstrap_servers="127.0.0.1:1")).openapi()


def requests() -> list[tuple[str, str, str | None]]:
    """The requests of the curl examples: method, path, and body where there is one."""
    found = []
    for line in shell_lines(PAGES["using"]):
        words = shlex.split(line)
        if words[0] == "curl":
            (url,) = (word for word in words if word.startswith("http://127.0.0.1:8000/"))
            body = words[words.index("-d") + 1] if "-d" in words else None
            method = words[words.index("-X") + 1] if "-X" in words else "GET" if body is None else "POST"
            found.append((method.lower(), url.removeprefix("http://127.0.0.1:8000").partition("?")[0], body))
    return found


def test_the_curl_examples_are_requests_that_the_api_takes() -> None:
    models = {("post", ENDPOINTS[type].path): ENDPOINTS[type].body for type in ("xfer.start", "xfer.cancel")}
    models["patch", f"{STATUS_PATH}/{{id}}"] = Change
    taken = set()
    for method, path, body in requests():
        ((template, operations),) = (
            (template, found)
            for template, found in openapi()["paths"].items()
            if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", template), path)
        )
        assert method in operations, path
        if body is not None:
            models[method, template].model_validate_json(body)
            taken.add((method, template))
    assert taken == models.keys()


def test_the_paths_that_are_named_exist() -> None:
    for path in ("/livez", "/readyz", "/metrics"):
        assert f"`{path}`" in PAGES["using"]
        assert path in openapi()["paths"]


@cache
def help_of(command: str) -> str:
    result = subprocess.run(
        [str(Path(sys.executable).parent / "xferq"), command, "--help"],
        capture_output=True,
        text=True,
        check=False,
        timeout=WAIT_S,
        env=os.environ | {"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"},
    )
    assert result.returncode == 0, f"xferq {command}: {result.stderr}"
    return result.stdout


def command_lines() -> list[str]:
    pages = (PAGES[name] for name in ("access", "kafka", "settings", "using"))
    lines = [line for text in (README, DEPLOY_README, *pages) for line in shell_lines(text)]
    return sorted({line[line.index("xferq ") :] for line in lines if re.search(r"(^|[/ ])xferq [a-z]", line)})


def test_there_are_examples_of_the_command_line() -> None:
    assert len(command_lines()) >= 8


@pytest.mark.parametrize("line", command_lines())
def test_the_command_line_takes_the_example(line: str) -> None:
    _, command, *rest = shlex.split(line)
    for option in rest:
        if option.startswith("--"):
            assert re.search(rf"(?<![\w-]){re.escape(option)}(?![\w-])", help_of(command)), option
    assert help_of(command)
