"""Every public module, class, function and method says what it is for."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MODULES = sorted(path for package in ("streams", "api") for path in (ROOT / package).rglob("*.py"))

Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def name_of(module: Path) -> str:
    return module.relative_to(ROOT).as_posix()


def promised_in_ports() -> dict[str, set[str]]:
    """The protocols of streams/ports.py with their methods, and those they are made of: not to be described again."""
    promised: dict[str, set[str]] = {}
    for node in ast.parse((ROOT / "streams" / "ports.py").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef):
            own = {item.name for item in node.body if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef)}
            promised[node.name] = own.union(*(promised.get(ast.unparse(base), set()) for base in node.bases))
    return promised


PROMISED = promised_in_ports()


def implements(node: ast.ClassDef) -> set[str]:
    """The methods that a class may leave to its protocol: its docstring names it, `streams.ports.Kafka`."""
    text = ast.get_docstring(node) or ""
    return {method for name, methods in PROMISED.items() if f"`streams.ports.{name}`" in text for method in methods}


def public_parts(tree: ast.Module) -> Iterator[tuple[str, Documented]]:
    """What needs a docstring, by name. Bare members of protocols (`key`, `value`) say it all by their name."""
    yield "the module", tree
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("_"):
            yield node.name, node
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield node.name, node
            left_to_the_port = implements(node)
            for item in node.body:
                if (
                    isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef)
                    and not item.name.startswith("_")
                    and item.name not in left_to_the_port
                    and not is_bare(item)
                ):
                    yield f"{node.name}.{item.name}", item


def is_bare(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return [ast.unparse(item) for item in function.body] == ["..."]


def undocumented(source: str) -> list[str]:
    return [name for name, node in public_parts(ast.parse(source)) if not (ast.get_docstring(node) or "").strip()]


def test_public_things_say_what_they_are_for() -> None:
    found = {name_of(module): undocumented(module.read_text(encoding="utf-8")) for module in MODULES}
    assert {name: missing for name, missing in found.items() if missing} == {}


@pytest.mark.parametrize(
    ("source", "missing"),
    [
        ("def f(): pass", ["the module", "f"]),
        ('"""M."""\nasync def f(): pass', ["f"]),
        ('"""M."""\nclass C:\n    def m(self): pass', ["C", "C.m"]),
        ('"""M."""\nclass C:\n    """A C."""\n    def m(self): ...\n    def _n(self): pass', []),
        ('"""M."""\nclass C:\n    """A `streams.ports.Hold`."""\n    async def release(self): pass', []),
        ('"""M."""\nclass C:\n    """A `streams.ports.Hold`."""\n    async def other(self): pass', ["C.other"]),
    ],
)
def test_the_look_itself_sees_what_is_missing(source: str, missing: list[str]) -> None:
    assert undocumented(source) == missing
