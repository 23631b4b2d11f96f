"""Apache Kafka's jars: fetched once from Maven into a per-user cache, used from there without a network."""

import fcntl
import json
import os
import time
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from streams.broker.failure import BrokerError
from streams.settings.folders import expanded, user_folder

KAFKA_VERSION = "4.4.0"
# The second one lets Kafka's log messages reach log4j2; Kafka's distribution adds it too. The "!" keeps
# the versions that its POM manages (an old kafka-clients among them) from overruling those Kafka asks for.
COORDINATES = (
    f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}",
    "org.apache.logging.log4j:log4j-slf4j-impl:2.25.5!",
)
_TIMEOUT_S = 30
_TRIES = 4
_PARALLEL = 4

Progress = Callable[[str], None]


def cache_dir() -> Path:
    """The folder of what is fetched once: XFERQ_CACHE_DIR, else `xferq` in the user's XDG cache folder.

    Raises:
        Misconfigured: there is no such folder, as the user has no home.
    """
    if own := os.environ.get("XFERQ_CACHE_DIR"):
        return expanded(Path(own))
    return user_folder("XDG_CACHE_HOME", ".cache") / "xferq"


def kafka_jars(on_progress: Progress) -> list[Path]:
    """Apache Kafka's class path, from the cache, or fetched now if it isn't there whole.

    Args:
        on_progress: told what is going on, in words, while something is fetched.

    Raises:
        BrokerError: something is missing and can't be fetched, or the cache folder can't be written.
    """
    cache = cache_dir()
    if jars := _listed(cache):
        return jars
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with _locked(cache / "lock", on_progress):
            # Another process may have fetched everything while this one waited for the lock.
            return _listed(cache) or _fetch(cache, on_progress)
    except OSError as error:
        if error.filename is None:  # no trouble with a file: requests' errors are OSErrors as well
            raise BrokerError(_unreachable(error)) from error
        raise BrokerError(
            f"the cache folder {cache} can't be used: {error.strerror}: {error.filename}. "
            "XFERQ_CACHE_DIR names another one."
        ) from error


def _manifest(cache: Path) -> Path:
    return cache / f"kafka-{KAFKA_VERSION}.json"


def _listed(cache: Path) -> list[Path] | None:
    """The jars that the manifest lists, if each is there with the size it had."""
    try:
        manifest = json.loads(_manifest(cache).read_bytes())
        if manifest["coordinates"] != list(COORDINATES):
            return None
        jars = {cache / jar["path"]: jar["size"] for jar in manifest["jars"]}
        if jars and all(path.stat().st_size == size for path, size in jars.items()):
            return list(jars)
    except (OSError, ValueError, LookupError, TypeError):
        pass
    return None


@contextmanager
def _locked(path: Path, on_progress: Progress) -> Iterator[None]:
    """Hold an exclusive lock on the cache; it ends with this process, whatever happens to it."""
    with path.open("wb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            on_progress(f"waiting for another process that fetches Apache Kafka {KAFKA_VERSION}")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _fetch(cache: Path, on_progress: Progress) -> list[Path]:
    # Imported here: jgo and what it needs take 0.2 s, and only a first start has use for them.
    import requests

    repository = cache / "maven"
    _drop_broken(repository)
    on_progress(f"resolving Apache Kafka {KAFKA_VERSION}")
    try:
        artifacts = _resolve(repository, on_progress)
        jars = _download(artifacts, on_progress)
    except requests.RequestException as error:
        raise BrokerError(_unreachable(error)) from error
    except RuntimeError as error:  # jgo's word for "no repository has it"
        raise BrokerError(f"Apache Kafka {KAFKA_VERSION} can't be fetched: {error}") from error
    if broken := [jar.name for jar in jars if not _is_whole(jar)]:
        raise BrokerError(f"fetched, but not readable as jar files: {', '.join(broken)}. Try again.")
    manifest = {
        "coordinates": COORDINATES,
        "jars": [{"path": str(jar.relative_to(cache)), "size": jar.stat().st_size} for jar in jars],
    }
    partial = _manifest(cache).with_suffix(".partial")
    partial.write_text(json.dumps(manifest, indent=1))
    partial.replace(_manifest(cache))
    return jars


def _resolve(repository: Path, on_progress: Progress) -> list[Any]:
    """The artifacts (jgo's Artifact) of the class path; fetches their POM files."""
    from dataclasses import replace

    from jgo.parse import Coordinate

    context = _maven(repository, on_progress)
    wanted = [context.create_dependency(replace(Coordinate.parse(c), scope="compile")) for c in COORDINATES]
    inputs, transitive = context.resolver.resolve(wanted)
    return [d.artifact for d in [*inputs, *transitive] if d.scope in ("compile", "runtime")]


def _maven(repository: Path, on_progress: Progress) -> Any:
    """jgo's MavenContext, with its files in `repository`."""
    from jgo.config import GlobalSettings
    from jgo.maven import MavenContext

    # Layer 1 of jgo alone. Its EnvironmentBuilder would also sort the jars into class path and module path,
    # for which it fetches a JDK; Kafka runs from the class path.
    return MavenContext(
        resolver=_patient_resolver(on_progress),
        repo_cache=repository,
        # "central" and whatever the user's jgo configuration adds or puts in its place
        remote_repos={"central": _central(), **GlobalSettings.load().repositories},
        timeout=_TIMEOUT_S,
    )


def _central() -> str:
    from jgo.constants import MAVEN_CENTRAL_URL

    return str(MAVEN_CENTRAL_URL)


def _patient_resolver(on_progress: Progress) -> Any:
    """jgo's resolver in pure Python, made to try again and to leave no half of a file behind.

    It tells of the POM files it fetches; _download() tells of the jars.
    """
    import requests
    from jgo.maven import PythonResolver

    class PatientResolver(PythonResolver):  # type: ignore[misc, unused-ignore]
        poms = 0

        def download(self, artifact: Any) -> Path | None:
            if artifact.packaging == "pom":
                self.poms += 1
                on_progress(f"resolving Apache Kafka {KAFKA_VERSION}: {self.poms} dependencies looked at")
            for tries_left in reversed(range(_TRIES)):
                try:
                    return super().download(artifact)  # type: ignore[no-any-return, unused-ignore]
                except requests.RequestException:
                    artifact.cached_path.unlink(missing_ok=True)
                    if not tries_left:
                        raise
                    time.sleep(0.5 * (_TRIES - tries_left))
                except BaseException:
                    artifact.cached_path.unlink(missing_ok=True)
                    raise
            return None

    return PatientResolver()


def _download(artifacts: list[Any], on_progress: Progress) -> list[Path]:
    """Fetch the jars, a few at a time; returns them in the order of the artifacts."""
    jars: list[Path] = []
    size = 0
    with ThreadPoolExecutor(_PARALLEL) as pool:
        for jar in pool.map(lambda artifact: Path(artifact.resolve()), artifacts):
            jars.append(jar)
            size += jar.stat().st_size
            on_progress(
                f"fetching Apache Kafka {KAFKA_VERSION}: {len(jars)} of {len(artifacts)} files, {size / 1e6:.0f} MB"
            )
    return jars


def _drop_broken(repository: Path) -> None:
    """Remove what a process that was killed while it fetched has left unfinished."""
    for jar in repository.rglob("*.jar"):
        if not _is_whole(jar):
            jar.unlink()
    for pom in repository.rglob("*.pom"):
        try:
            ElementTree.parse(pom)  # noqa: S314
        except ElementTree.ParseError:
            pom.unlink()


def _is_whole(jar: Path) -> bool:
    """Read a jar through and compare its checksums."""
    try:
        with zipfile.ZipFile(jar) as archive:
            return archive.testzip() is None
    except (OSError, zipfile.BadZipFile, EOFError):
        return False


def _unreachable(error: Exception) -> str:
    return (
        f"Apache Kafka {KAFKA_VERSION} is not in the cache ({cache_dir()}) and can't be fetched: {error}. "
        "The first start needs a way to Maven Central (HTTPS_PROXY is honoured); later ones need no network. "
        "Or name a Kafka of your own with XFERQ_BOOTSTRAP_SERVERS."
    )
