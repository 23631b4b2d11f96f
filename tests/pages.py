"""What tests of README.md and of docs/ look up in the tree, and how they run what a page tells its reader to."""

import ast
import os
import re
import subprocess
from collections import Counter
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import IO

from tests.support.patience import WAIT_S

ROOT = Path(__file__).parent.parent


@cache
def functions_of(file: str) -> frozenset[str]:
    """The names of all functions in a file of this tree, by its path from the root."""
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, functions))


def sections(page: Path) -> dict[str, str]:
    """The text below each `##` heading of a page, by the heading's anchor."""
    parts = re.split(r"(?m)^## (.*)\n", page.read_text(encoding="utf-8"))
    return {
        re.sub(r"[^\w -]", "", title.lower()).strip().replace(" ", "-"): text
        for title, text in zip(parts[1::2], parts[2::2], strict=True)
    }


def anchors(page: Path) -> frozenset[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    found: Counter[str] = Counter()
    names = set()
    for title in re.findall(
        r"(?m)^#{1,6} (.*)$", re.sub(r"(?ms)^ *```.*?^ *```$", "", page.read_text(encoding="utf-8"))
    ):
        name = re.sub(r"[^\w -]", "", title.lower()).strip().replace(" ", "-")
        names.add(name if not found[name] else f"{name}-{found[name]}")
        found[name] += 1
    return frozenset(names)


@cache
def names_in(file: str) -> frozenset[str]:
    """What a module defines, by its path from the root: functions, classes, constants, and `Class.method`."""
    found = set()
    scopes: list[tuple[str, list[ast.stmt]]] = [("", ast.parse((ROOT / file).read_text(encoding="utf-8")).body)]
    while scopes:
        prefix, body = scopes.pop()
        for node in body:
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                found.add(prefix + node.name)
            if isinstance(node, ast.ClassDef):
                scopes.append((f"{prefix}{node.name}.", node.body))
            targets = node.targets if isinstance(node, ast.Assign) else []
            targets = [node.target] if isinstance(node, ast.AnnAssign) else targets
            found |= {prefix + target.id for target in targets if isinstance(target, ast.Name)}
    return frozenset(found)


def code_blocks(text: str, language: str = "sh") -> list[str]:
    """The blocks of code in a text, in their order."""
    return re.findall(rf"(?ms)^ *```{language}\n(.*?)^ *```$", text)


class Reader:
    """Somebody who types in what a page says, with names of their own for what stands for any."""

    def __init__(self, folder: Path, env: Mapping[str, str], names: Mapping[str, str]) -> None:
        self._folder = folder
        self._env = dict(env)
        self._names = names

    def text(self, block: str) -> str:
        """A block with these names."""
        for name, own in self._names.items():
            block = block.replace(name, own)
        return block

    def starts(self, block: str, log: IO[bytes]) -> "subprocess.Popen[bytes]":
        """Type in a block whose last command goes on until it is told to end; that is the process."""
        *before, last = self.text(block).strip().splitlines()
        # The shell becomes the command, as with a service manager: signals reach it.
        words = last.split(" xferq ")
        assert len(words) == 2, last
        script = "\n".join([*before, f"export {words[0]}", f"exec xferq {words[1]}"])
        return subprocess.Popen(
            ["bash", "-euo", "pipefail", "-c", script],
            env=os.environ | self._env, cwd=self._folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip

    def types(self, block: str, *, status: int = 0, **variables: object) -> str:
        """Run a block in a shell that stops at the first command that fails; what it has printed.

        The block may use the variables, and its status must be as given.
        """
        env = os.environ | self._env | {name: str(value) for name, value in variables.items()}
        result = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", self.text(block)],
            env=env, cwd=self._folder, capture_output=True, text=True, timeout=WAIT_S, check=False,
        )  # fmt: skip
        assert result.returncode == status, f"{block}\n{result.stdout}\n{result.stderr}"
        assert "Traceback" not in result.stdout + result.stderr
        return result.stdout + result.stderr


def between(marker: str, text: str) -> str:
    """What stands between `<!-- marker -->` and `<!-- /marker -->`."""
    _, _, rest = text.partition(f"<!-- {marker} -->")
    inside, end, _ = rest.partition(f"<!-- /{marker} -->")
    assert end, marker
    return inside.strip()
