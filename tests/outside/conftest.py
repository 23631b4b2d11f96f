"""Fixtures for what comes from outside: an API that anybody may talk to."""

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests.api.processes import ApiProcess, environment

NO_KAFKA = {"XFERQ_BOOTSTRAP_SERVERS": "127.0.0.1:1"}

# The same cases on every machine and in every run; no file of old ones, no clock.
settings.register_profile(
    "outside", derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck)
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiProcess]:
    """An API without Kafka, as a process."""
    with ApiProcess(environment(NO_KAFKA, tmp_path_factory.mktemp("home"))) as running:
        yield running
