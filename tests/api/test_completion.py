"""`xferq completion`: what each shell makes of its script, asked of the shell itself."""

import shutil
import subprocess
from pathlib import Path

import pytest

from api.cli import commands
from tests.api.processes import environment, xferq
from tests.support.patience import WAIT_S

# The words of a command line, the last one unfinished, and some of what fits, and of what does not.
LINES = [
    (["xferq", ""], {"cancel", "status", "hash-password"}, {"--reason"}),
    (["xferq", "st"], {"status"}, {"cancel"}),
    (["xferq", "cancel", "--"], {"--reason", "--wait", "--config"}, {"--target", "--with-parent"}),
    (["xferq", "transfer", "--reason", "cancel", "--t"], {"--target", "--tenant"}, {"--reason"}),
    (["xferq", "worker", "--"], {"--processes"}, {"--with-parent"}),
    (["xferq", "health", ""], {"api", "worker"}, {"--config"}),
    (["xferq", "completion", "z"], {"zsh"}, {"bash"}),
]


def completed_by_bash(script: Path, words: list[str]) -> str:
    listed = " ".join(f"'{word}'" for word in words)
    asks = f"COMP_WORDS=({listed}); COMP_CWORD={len(words) - 1}; _xferq"
    program = f"source '{script}'; {asks}; printf '%s\\n' \"${{COMPREPLY[@]}}\""
    return run("bash", "--norc", "-c", program)


def completed_by_zsh(script: Path, words: list[str]) -> str:
    """What it offers: the lists that it gives zsh's own functions, which need a terminal to choose from them."""
    listed = " ".join(f"'{word}'" for word in words)
    program = (
        "compdef() { }; _describe() { print -rl -- ${(P)2} }; _arguments() { print -rl -- $@ }; "
        f"source '{script}'; words=({listed}); CURRENT={len(words)}; _xferq"
    )
    offered = [line.lstrip("*") for line in run("zsh", "-f", "-c", program).splitlines()]
    names = {line.partition("[")[0].partition(":")[0] for line in offered if not line.startswith(" ")}
    names |= {word for line in offered if line.startswith(": :(") for word in line[4:-1].split()}
    return "\n".join(name for name in names if name.startswith(words[-1]) and (words[-1] or not name.startswith("-")))


def completed_by_fish(script: Path, words: list[str]) -> str:
    said = run("fish", "--no-config", "-c", f"source '{script}'; complete -C '{' '.join(words)}'")
    return "\n".join(line.partition("\t")[0] for line in said.splitlines())


SHELLS = {"bash": completed_by_bash, "zsh": completed_by_zsh, "fish": completed_by_fish}


def run(*command: str) -> str:
    result = subprocess.run(command, capture_output=True, text=True, timeout=WAIT_S, check=False)
    assert result.stderr == ""
    return result.stdout


@pytest.mark.parametrize("shell", SHELLS)
def test_a_shell_completes(shell: str, tmp_path: Path) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    script = tmp_path / "script"
    script.write_text(xferq("completion", shell, env=environment({}, tmp_path)).stdout, encoding="utf-8")
    for words, fits, does_not in LINES:
        found = set(SHELLS[shell](script, words).split())
        assert (fits - found, does_not & found) == (set(), set()), words
    assert set(SHELLS[shell](script, ["xferq", ""]).split()) >= {*commands()}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_has_every_command(shell: str, tmp_path: Path) -> None:
    text = xferq("completion", shell, env=environment({}, tmp_path)).stdout
    assert all(name in text for name in commands())


def test_another_shell(tmp_path: Path) -> None:
    assert "bash" in xferq("completion", "tcsh", env=environment({}, tmp_path), status=2).stderr
