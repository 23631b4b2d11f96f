"""What a command imports: no more than it needs, as that is most of the time it takes."""

import subprocess
import sys
from pathlib import Path

import pytest

from api.cli import commands
from tests.api.processes import environment
from tests.test_architecture import MODULES, ROOT

HEAVY = {
    *("aiokafka", "confluent_kafka", "faust", "mode", "cramjam", "opentelemetry", "prometheus_client"),
    *("fastapi", "starlette", "uvicorn", "httpx", "anyio", "asyncio", "pydantic_settings", "argon2", "jgo", "requests"),
}
"""Each of them takes a noticeable part of a second."""
PRINT = """
import sys
from api.cli import main
try:
    main()
except SystemExit as ended:
    pass
print("\\n".join(sys.modules), file=open(sys.argv[0], "w"))
"""


def imported(tmp_path: Path, *arguments: str) -> set[str]:
    """The modules that are there when a command has ended."""
    file = tmp_path / "modules"
    program = f"import sys; sys.argv = [{str(file)!r}, *sys.argv[1:]]\n{PRINT}"
    env = environment({"XFERQ_API_URL": "http://127.0.0.1:1"}, tmp_path)
    subprocess.run([sys.executable, "-c", program, *arguments], env=env, cwd=ROOT, capture_output=True, check=True)
    return set(file.read_text(encoding="utf-8").split())


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--version"],
        ["status"],
        ["status", "x"],
        ["status", "--help"],
        ["cancel", "q", "--reason", "r"],
        ["cancel", "--help"],
        ["transfer", "--target", "t", "--tenant", "x", "--reason", "r"],
        ["withdraw", "x"],
        ["health"],
        ["config"],
    ],
    ids=" ".join,
)
def test_what_only_talks_to_the_api_imports_no_kafka_and_no_server(tmp_path: Path, arguments: list[str]) -> None:
    names = imported(tmp_path, *arguments)
    assert {name.partition(".")[0] for name in names} & HEAVY == set()
    assert not {name for name in names if name.startswith(("streams.kafka", "streams.broker", "streams.ledger"))}
    if "--help" not in arguments:
        assert not {name for name in names if name.partition(".")[0] == "rich"}


def test_the_list_of_commands_needs_none_of_them(tmp_path: Path) -> None:
    names = imported(tmp_path, "--help")
    assert {name for name in names if name.startswith("api.cli.")} == {"api.cli.configuration", "api.cli.output"}
    assert not names & {"pydantic", "orjson", "streams.domain.command", "streams.settings.settings"}


def test_the_list_says_of_each_command_what_it_says_itself() -> None:
    import typer

    from api.cli import add_command

    app = typer.Typer()
    for name in commands():
        add_command(app, name)
    found = {
        info.name: (info.callback.__doc__ or "").partition("\n")[0] for info in app.registered_commands if info.callback
    }
    assert {name: about for name, about in commands().items() if not (found[name] or "").startswith(about)} == {}


def test_each_module_of_the_command_line_is_in_the_list() -> None:
    from api.cli import COMMANDS

    modules = {path.stem for path in MODULES if path.parent == ROOT / "api" / "cli"}
    others = {"__init__", "__main__", "headline", "kafka", "output", "status_table"}  # no commands
    assert {module for module, _ in COMMANDS.values()} == modules - others
