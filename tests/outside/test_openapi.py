"""The HTTP API, fuzzed from its own OpenAPI description by schemathesis: no server error, nothing undocumented.

All of schemathesis' checks are on, `ignored_auth` among them: this machine is not trusted here. Some find nothing to
check: `object_level_authorization`, as who may ask may ask all; `missing_required_header`, as no header is required;
`use_after_free` and `ensure_resource_availability`, as nothing can be deleted and no answer is 201.
"""

import asyncio
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import httpx
import pytest

from api.users import user_line
from streams.broker import EmbeddedBroker
from streams.domain.status import Status
from streams.domain.topic import topic_of
from streams.domain.transitions import State
from streams.kafka.cluster import Cluster
from streams.kafka.layout import apply_layout
from streams.ledger.ledger import Ledger
from streams.settings.settings import Settings
from tests.api.processes import ApiProcess, environment
from tests.broker.scene import wait_until
from tests.support.names import own_name, remove_topics
from tests.support.patience import WAIT_S

HERE = Path(__file__).parent
USER = ("alice", "correct-horse")
EXAMPLE_QUEUE = "http://mx2.example.com/.xfer.kumomta.internal"
"""The queue of the examples in the description: it exists, so that cancels are taken."""


async def _prepare(settings: Settings) -> None:
    """The topics, and a ledger with something to list: commands in every state, and a record that was none."""
    async with Cluster(settings) as kafka:
        await apply_layout(kafka.connection, settings)
        await kafka.create([topic_of(EXAMPLE_QUEUE)])
        ledger = Ledger(kafka, settings)
        for state in get_args(State):
            status = Status(
                id=f"was-{state}",
                type="xfer.cancel",
                queue_name="\x1b[2J\u202e\U0001f4a3.xfer.kumomta.internal",
                reason='"\x00\r\n<script>',
                state=state,
                detail="detail",
                returned=2,
                returned_reasons={"no_envelope": 2},
                requested_at="2026-11-24T10:00:00Z",
            )
            await ledger.record_status(topic_of(EXAMPLE_QUEUE), status)
        await ledger.record_status("x", Status(id="was-nothing", state="refused", detail="the command is empty"))


@pytest.fixture
def api(broker: EmbeddedBroker, tmp_path: Path) -> Iterator[ApiProcess]:
    """The API on a real broker, with topics of its own and without a worker: a transfer takes all queues."""
    own = own_name()
    values: dict[str, Any] = {
        "bootstrap_servers": broker.bootstrap_servers,
        **{f"{role}_topic": f"{role}.{own}" for role in ("commands", "drains", "ledger", "log")},
        **{f"{role}_partitions": 2 for role in ("commands", "drains", "ledger", "log")},
    }
    asyncio.run(_prepare(Settings(**values)))
    variables = {f"XFERQ_{name.upper()}": str(value) for name, value in values.items()}
    (tmp_path / "users").write_text(user_line(*USER) + "\n")
    guarded = {"XFERQ_API_TRUSTED_HOSTS": "", "XFERQ_API_USERS_FILE": str(tmp_path / "users")}
    with ApiProcess(environment(variables | guarded, tmp_path)) as running:
        wait_until(lambda: httpx.get(f"{running.url}/readyz", auth=USER, trust_env=False).status_code == 200)
        yield running
    remove_topics(broker.bootstrap_servers, own)


def test_every_answer_is_as_described(api: ApiProcess, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    result = subprocess.run(
        [
            str(Path(sys.executable).parent / "schemathesis"),
            *("--config-file", str(HERE / "schemathesis.toml"), "run", f"{api.url}/api-docs/openapi.json"),
            *("--checks", "all", "--phases", "examples,coverage,fuzzing,stateful", "--max-examples", "20"),
            *(
                "--auth",
                ":".join(USER),
                "--wait-for-schema",
                str(int(WAIT_S)),
                "--no-color",
                "--report",
                "json",
                "--report-json-path",
                str(report),
            ),
        ],
        env={**os.environ, "SCHEMATHESIS_HOOKS": "tests.outside.http_formats", "PYTHONPATH": str(HERE.parent.parent)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=5 * WAIT_S,
        check=False,
    )
    shown = "\n".join(line[:400] for line in (result.stdout + result.stderr).splitlines())
    assert result.returncode == 0, shown
    found = json.loads(report.read_text(encoding="utf-8"))
    assert (found["failures"], found["errors"]) == ([], []), shown
    assert {phase["status"] for phase in found["phases"].values()} == {"success"}, shown
    assert found["test_cases"]["generated"] >= 300, shown
    assert found["operations"]["tested"] == found["operations"]["total"] >= 7, shown
    accepted: Counter[str] = Counter()
    for operation, phases in found["valid_rates"].items():
        # A command's own path and that of cancels are the same to the api.
        alike = operation.replace("/xfer/v1/{id}", "/xfer/cancel/v1/{id}")
        accepted[alike] += sum(phase["accepted"] for phase in phases.values())
    assert min(accepted.values()), f"some never succeed: {accepted}"
    log = "".join(api.log)
    assert "Traceback" not in log
    assert "command.accepted" in log
