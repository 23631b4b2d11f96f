"""Metrics, alerts and the board: one list, and everything else made of it."""

import ast
import asyncio
import json
import re
import shutil
import socket
import subprocess
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from functools import cache
from itertools import count
from typing import Any

import pytest
import yaml
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from streams.claim.request import ClaimRequest
from streams.domain.topic import topic_of
from streams.errors import Misconfigured, Revoked, Unavailable, XferqError
from streams.settings.settings import Settings
from streams.telemetry import metrics, open_transactions
from streams.telemetry.health import Health
from streams.telemetry.metrics import METRICS, OTHER, REGISTRIES, error_of, metrics_table
from streams.telemetry.open_transactions import OpenTransactionAge
from streams.worker.backlog import Backlog
from streams.worker.probes import Probes, serve_probes
from streams.worker.stalled_claims import StalledClaims
from tests.engine.world import XFER_QUEUE, World
from tests.fakes.clock import timeless
from tests.fakes.faults import Faults
from tests.fakes.kafka import FakeKafka
from tests.pages import ROOT, between, sections
from tests.runbook.installation import RUNBOOK
from tests.support.draining import drain

PROMETHEUS = ROOT / "deploy" / "prometheus"
ALERTS: list[dict[str, Any]] = [
    rule
    for group in yaml.safe_load((PROMETHEUS / "alerts.yaml").read_text(encoding="utf-8"))["groups"]
    for rule in group["rules"]
]
BOARD: dict[str, Any] = json.loads((ROOT / "deploy" / "grafana" / "xferq.json").read_text(encoding="utf-8"))
LISTED = {metric.name: metric for metric in METRICS}


# ---- the list


def test_the_page_of_metrics_is_current() -> None:
    page = between("metrics", (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8"))
    assert page == metrics_table(), "put the output of `python -m streams.telemetry.metrics` into docs/metrics.md"


@pytest.mark.parametrize("part", ["worker", "api"])
def test_what_is_served_is_what_is_listed(part: metrics.Part) -> None:
    families = list(text_string_to_metric_families(generate_latest(REGISTRIES[part]).decode()))
    served = {f"{family.name}_total" if family.type == "counter" else family.name: family for family in families}
    ours = {name for name in served if not name.startswith(("process_", "python_"))}
    assert ours == {metric.name for metric in METRICS if part in metric.parts}
    for metric in METRICS:
        if part in metric.parts:
            assert (served[metric.name].type, served[metric.name].documentation) == (metric.kind, metric.help)
    assert any(name.startswith("process_") for name in served)


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_a_metric_says_all_that_it_is(metric: metrics.Metric) -> None:
    assert metric.name.startswith("xferq_")
    assert metric.help
    assert metric.unit or metric.name == "xferq_info"
    assert (metric.kind == "counter") == metric.name.endswith("_total")
    assert (metric.unit == "seconds") == metric.name.endswith("_seconds")
    assert len(METRICS) == len(LISTED)


def test_series_of_known_labels_are_there_before_anything_happens() -> None:
    """Or Prometheus would not see the first error of a process as an increase."""
    text = generate_latest(REGISTRIES["worker"]).decode()
    assert 'xferq_producers_replaced_total{error="Fenced",work="claim"} ' in text
    assert 'xferq_returned_messages_total{reason="no_envelope"} ' in text
    assert 'xferq_claim_seconds_count{outcome="refused"} ' in text


def test_every_metric_is_set_somewhere() -> None:
    known = {name for name, value in vars(metrics).items() if hasattr(value, "collect") and name.isupper()}
    assert len(known) == len(METRICS)
    used: set[str] = set()
    for package in ("streams", "api"):
        for module in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Attribute) and node.attr in ("inc", "set", "observe", "set_function", "labels"):
                    used |= {part.id for part in ast.walk(node.value) if isinstance(part, ast.Name)}
                if isinstance(node, ast.Attribute) and node.attr == "track_inprogress":
                    used |= {part.id for part in ast.walk(node.value) if isinstance(part, ast.Name)}
    assert known <= used


def test_every_error_has_a_label() -> None:
    class Newer(Unavailable):
        pass

    assert error_of(Newer("why")) == "Unavailable"
    for kind in XferqError.__subclasses__():
        assert error_of(kind.__new__(kind)) in LISTED["xferq_producers_replaced_total"].labels["error"]


# ---- what they say


def value(name: str, **labels: str) -> float:
    """A worker's sample; 0 where there is none yet."""
    return REGISTRIES["worker"].get_sample_value(name, labels) or 0.0


@timeless
async def test_what_is_claimed_and_not_drained() -> None:
    names = ("xferq_messages_total", "xferq_claims_total", "xferq_claim_seconds_count", "xferq_commands_total")
    labels = ({"kind": "xfer.cancel", "outcome": "moved"}, *2 * [{"outcome": "claimed"}])
    counted = list(zip(names, (*labels, {"type": "xfer.cancel", "outcome": "done"}), strict=True))
    async with World() as world:
        before = [value(name, **label) for name, label in counted]
        world.inject(12)
        worker = world.worker(drains=False)
        world.cancel()
        await world.until(lambda: bool(worker.acked))
        await asyncio.sleep(1.5)
        assert value("xferq_undrained_messages") == value("xferq_unfinished_messages") == 12
        assert value("xferq_claims_unfinished") == 1
        assert 0 < value("xferq_oldest_claim_seconds") < 2
        await asyncio.sleep(20)
        assert 19 < value("xferq_silent_claim_seconds") <= value("xferq_oldest_claim_seconds") < 23
        assert value("xferq_tasks_republished_total") > 0
        worker.begin_drains()
        await world.ended("c1")
        await asyncio.sleep(1.5)
        for name in ("undrained_messages", "unfinished_messages", "claims_unfinished", "oldest_claim_seconds"):
            assert value(f"xferq_{name}") == 0
        assert value("xferq_silent_claim_seconds") == 0
        assert [value(name, **label) - old for (name, label), old in zip(counted, before, strict=True)] == [12, 1, 1, 1]


@timeless
async def test_a_drain_that_gets_on_is_not_silent() -> None:
    """Of one claim half is drained, slowly: what is left becomes less, and it has shown progress a moment ago."""
    async with World(partitions=1) as world:
        world.inject(6)
        worker = world.worker(drains=False)
        world.cancel()
        await world.until(lambda: bool(worker.acked))
        claim = worker.engine.ledger.claim(topic_of(XFER_QUEUE), "c1")
        assert claim is not None
        engine = worker.engine
        claims = StalledClaims(engine.context, engine.commands, lambda _: True)
        await claims.nudge_stalled()
        await asyncio.sleep(10)
        await claims.nudge_stalled()
        assert value("xferq_silent_claim_seconds") == 10
        drains = iter(count())
        with pytest.raises(Revoked):
            # Ours for the first transaction of three messages only.
            await drain(worker.engine.drainer, claim.topic, 0, lambda: next(drains) < 4)
        await worker.engine.ledger.barrier_all()
        await claims.nudge_stalled()
        left = value("xferq_undrained_messages")
        assert 0 < left < value("xferq_unfinished_messages") == 6
        assert value("xferq_silent_claim_seconds") == 0


@timeless
async def test_claims_by_their_outcome() -> None:
    outcomes = ("claimed", "empty", "resumed", "refused", "failed")
    before = {outcome: value("xferq_claims_total", outcome=outcome) for outcome in outcomes}
    async with World(guard_ms=60_000, stalled_ms=60_000) as world:
        world.queue()
        worker = world.worker()
        world.cancel("nothing")
        await world.ended("nothing")
        world.inject(3)
        world.cancel("some")
        await world.ended("some")
        world.cancel("absent", queue="http://absent.example/.xfer.kumomta.internal")
        await world.ended("absent")
        # The same command again, as after a crash before it was acknowledged.
        request = ClaimRequest("some", "xfer.cancel", XFER_QUEUE, topic_of(XFER_QUEUE), XFER_QUEUE, "why")
        await worker.engine.claimer.claim(request)
    found = {outcome: value("xferq_claims_total", outcome=outcome) - before[outcome] for outcome in outcomes}
    assert found == {"claimed": 1, "empty": 1, "resumed": 1, "refused": 1, "failed": 0}


@timeless
async def test_what_can_t_be_restored_is_counted_by_reason() -> None:
    before = value("xferq_returned_messages_total", reason="no_saved_info")
    async with World() as world:
        world.inject(4, headers=lambda _: world._headers("a@b.example"))
        world.worker()
        world.cancel()
        status = await world.ended("c1")
        assert status.returned == 4
    assert value("xferq_returned_messages_total", reason="no_saved_info") - before == 4


@pytest.mark.usefixtures("no_depths")
@timeless
async def test_the_deepest_queues_have_a_label_of_their_own() -> None:
    async with World(metrics_queues=2) as world:
        for number, depth in ((1, 3), (2, 9), (3, 5), (4, 1)):
            world.inject(depth, queue=_queue(number))
        world.inject(7, queue="someone@scheduled.example")
        worker = world.worker()
        await world.until(lambda: worker.engine._shares != frozenset())
        backlog = Backlog(FakeKafka(world.broker, world.settings), worker.engine.ledger, world.settings)
        await backlog.show_depths(lambda _: True)
        assert depths() == {_queue(2): 9, _queue(3): 5, OTHER: 4}
        world.inject(30, queue=_queue(4))
        await asyncio.sleep(1)
        await backlog.show_depths(lambda _: True)
        assert depths() == {_queue(4): 31, _queue(2): 9, OTHER: 8}
        # A topic that is another worker's now, and one that is gone.
        del world.broker.topics[topic_of(_queue(2))]
        await asyncio.sleep(1)
        await backlog.show_depths(lambda topic: topic != topic_of(_queue(4)))
        assert depths() == {_queue(3): 5, _queue(1): 3, OTHER: 0}
        await asyncio.sleep(1)
        await backlog.show_depths(lambda _: False)
        assert depths() == {OTHER: 0}


def _queue(number: int) -> str:
    return f"http://mx{number}.example/.xfer.kumomta.internal"


@pytest.fixture
def no_depths() -> None:
    """None from another test: a process has one backlog."""
    metrics.DEPTH.clear()


def depths() -> dict[str, float]:
    (family,) = REGISTRIES["worker"].restricted_registry(["xferq_xfer_queue_depth"]).collect()
    return {sample.labels["queue"]: sample.value for sample in family.samples}


@pytest.mark.usefixtures("no_depths")
@timeless
async def test_depth_is_from_the_head_on_and_no_number_asks_nothing() -> None:
    async with World(metrics_queues=10) as world:
        world.inject(10)
        dispatcher = world.dispatcher()
        dispatcher.join()
        sent = dispatcher.poll(3)
        dispatcher.commit()
        kafka = FakeKafka(world.broker, world.settings)
        await Backlog(kafka, world.ledger, world.settings).show_depths(lambda _: True)
        assert depths() == {XFER_QUEUE: 10 - len(sent), OTHER: 0}
        assert 0 < len(sent) < 10
        faults = Faults()
        silent = world.settings.model_copy(update={"metrics_queues": 0})
        await Backlog(FakeKafka(world.broker, silent, faults), world.ledger, silent).show_depths(lambda _: True)
        assert not faults.passed


def test_how_long_a_transaction_is_open(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = 100.0
    monkeypatch.setattr(open_transactions.time, "monotonic", lambda: clock)
    looks = OpenTransactionAge[int]()
    assert looks.look({0: 5, 1: 5}, {0: 5, 1: 9}) == 0
    clock = 110.0
    assert looks.look({0: 5, 1: 5}, {0: 8, 1: 12}) == 10
    clock = 130.0
    # The first one of 1 is over, another one is open behind it; that of 0 goes on.
    assert looks.look({0: 5, 1: 9}, {0: 8, 1: 12}) == 20
    clock = 140.0
    assert looks.look({0: 8, 1: 9}, {0: 8, 1: 12}) == 10
    assert looks.look({0: 8, 1: 12}, {0: 8, 1: 12}) == 0


@timeless
async def test_the_ledger_s_lag_and_what_is_open_in_it() -> None:
    async with World() as world:
        ledger = world.ledger
        await ledger.look()
        assert value("xferq_ledger_lag") == value("xferq_open_transaction_seconds", where="ledger") == 0
        log = world.broker.topics[world.settings.ledger_topic].logs[1]
        await FakeKafka(world.broker, world.settings).producer("another")
        transaction = world.broker.begin("another", 600.0)
        log.append([(0, b"command/x", b"{}", ())], transaction)
        await ledger.look()
        await asyncio.sleep(50)
        await ledger.look()
        assert value("xferq_open_transaction_seconds", where="ledger") == pytest.approx(50, abs=1)
        unreadable = value("xferq_unreadable_ledger_records_total")
        world.broker.decide(transaction, commit=True)
        await asyncio.sleep(1)
        await ledger.look()
        assert value("xferq_open_transaction_seconds", where="ledger") == 0
        assert value("xferq_ledger_lag") == 0
        assert value("xferq_unreadable_ledger_records_total") == unreadable + 1
        tail: Any = ledger._reader._parts[1].tail
        tail.read = lambda timeout_ms: asyncio.sleep(timeout_ms / 1000, [])  # as a reader that stands still
        await asyncio.sleep(2)
        log.append([(0, b"head/x/0", None, ()), (0, b"head/x/1", None, ())])
        await ledger.look()
        assert value("xferq_ledger_lag") == 2


# ---- where they are served


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


Serve = Callable[[str, int], object]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts a worker's own port; it is closed with the test."""
    with ExitStack() as ended:
        yield lambda host, port: ended.callback(serve_probes(Probes(Health()), host, port))


@pytest.mark.parametrize(("host", "asked"), [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.2"), ("::1", "[::1]")])  # noqa: S104
def test_the_address_is_a_setting(serve: Serve, port: int, host: str, asked: str) -> None:
    serve(host, port)
    with urllib.request.urlopen(f"http://{asked}:{port}/metrics", timeout=5) as answer:
        assert b"xferq_undrained_messages" in answer.read()
    if host == "127.0.0.1":
        with pytest.raises(urllib.error.URLError):
            urllib.request.urlopen(f"http://127.0.0.2:{port}/metrics", timeout=5)


@pytest.mark.parametrize(
    ("host", "why"),
    [("no.such.host.invalid", "XFERQ_METRICS_HOST: "), ("192.0.2.1", "XFERQ_METRICS_PORT: port ")],
)
def test_an_address_that_is_not_ours(serve: Serve, port: int, host: str, why: str) -> None:
    with pytest.raises(Misconfigured, match=f"^{why}.*{host}"):
        serve(host, port)


def test_who_connects_and_says_nothing_takes_no_more_than_some_threads(serve: Serve, port: int) -> None:
    serve("127.0.0.1", port)
    before = threading.active_count()
    silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(60)]
    try:
        assert silent[0].recv(1) == b""  # it has gone for another one
        assert threading.active_count() <= before + 16
    finally:
        for connection in silent:
            connection.close()


def test_who_sends_a_byte_now_and_then_keeps_nobody_out(serve: Serve, port: int) -> None:
    """In Kubernetes the worker would be ended: it asks the same port whether it lives."""
    serve("127.0.0.1", port)
    slow = [socket.create_connection(("127.0.0.1", port)) for _ in range(16)]
    try:
        for number in range(20):
            for connection in slow:
                with suppress(OSError):
                    connection.send(b"GET /livez HTTP/1.1\r\n"[number : number + 1])
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/livez", timeout=5) as answer:
                assert answer.status == 200
            slow[number % 16].close()
            slow[number % 16] = socket.create_connection(("127.0.0.1", port))
    finally:
        for connection in slow:
            connection.close()


# ---- alerts and the board


def expressions() -> Iterator[tuple[str, str]]:
    """Everything that is asked of Prometheus, with where it stands."""
    for alert in ALERTS:
        yield alert["alert"], alert["expr"]
    for panel in BOARD["panels"]:
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"]


_WORDS = {"by", "without", "and", "or", "unless", "on", "ignoring", "offset", "bool", "group_left", "group_right"}


def metrics_in(expression: str) -> Iterator[tuple[str, dict[str, str]]]:
    """The metrics that an expression names, with what it asks of their labels."""
    grouped = re.sub(r"\b(by|without|on|ignoring)\s*\([^)]*\)", " ", expression)
    for found in re.finditer(
        r"(?<![\w$.\"])([a-zA-Z_:][\w:]*)(?!\w)\s*(\{[^}]*\}|\()?", re.sub(r"\[[^\]]*\]", "", grouped)
    ):
        name, rest = found[1], found[2] or ""
        if rest != "(" and name not in _WORDS:
            yield name, dict(re.findall(r'(\w+)(?:=~|!~|!=|=)"([^"]*)"', rest))


@cache
def base_of(name: str) -> str:
    """The metric that a series belongs to."""
    for ending in ("_bucket", "_sum", "_count"):
        base = name.removesuffix(ending)
        if base != name and base in LISTED and LISTED[base].kind == "histogram":
            return base
    return name


@pytest.mark.parametrize(("where", "expression"), list(expressions()))
def test_alerts_and_board_use_only_what_is_listed(where: str, expression: str) -> None:
    found = list(metrics_in(expression))
    assert found, where
    for name, labels in found:
        if name == "up":
            continue
        assert base_of(name) in LISTED, name
        metric = LISTED[base_of(name)]
        assert (metric.kind == "histogram") == (base_of(name) != name)
        for label, wanted in labels.items():
            assert label in metric.labels, label
            values = metric.labels[label]
            assert isinstance(values, str) or wanted in values, wanted
    for labels in re.findall(r"\bby\s*\(([^)]*)\)", expression):
        of_metrics = {label for name, _ in found if name != "up" for label in LISTED[base_of(name)].labels}
        assert {label.strip() for label in labels.split(",")} <= of_metrics | {"job", "instance", "le"}


def test_the_names_in_an_expression_are_found() -> None:
    assert [name for name, _ in metrics_in('sum by (a) (rate(x_total{b="c_d"}[5m])) / (max(y) > 0) offset 5m')] == [
        "x_total",
        "y",
    ]


def test_every_metric_is_on_the_board() -> None:
    shown = {
        base_of(name)
        for panel in BOARD["panels"]
        for t in panel.get("targets", ())
        for name, _ in metrics_in(t["expr"])
    }
    assert set(LISTED) - shown == {"xferq_waiting_seconds"}  # an alert goes by it


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
def test_an_alert_says_what_to_do(alert: dict[str, Any]) -> None:
    page, _, section = alert["annotations"]["runbook"].partition("#")
    assert page == "docs/runbook.md"
    assert section in sections(RUNBOOK)
    assert alert["annotations"]["summary"]
    assert alert["labels"]["severity"] in ("critical", "warning")


def test_every_alert_has_a_case_in_which_it_fires_and_one_in_which_it_does_not() -> None:
    cases = yaml.safe_load((PROMETHEUS / "alerts_test.yaml").read_text(encoding="utf-8"))["tests"]
    told = [(case["alertname"], bool(case["exp_alerts"])) for test in cases for case in test["alert_rule_test"]]
    assert set(told) == {(alert["alert"], fires) for alert in ALERTS for fires in (True, False)}


@pytest.fixture
def promtool() -> str:
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("no promtool (Debian: prometheus)")
    return found


@pytest.mark.parametrize("arguments", [["check", "config", "prometheus.yml"], ["test", "rules", "alerts_test.yaml"]])
def test_prometheus_takes_them_and_they_do_what_they_should(promtool: str, arguments: list[str]) -> None:
    ended = subprocess.run(
        [promtool, *arguments], cwd=PROMETHEUS, capture_output=True, text=True, check=False, timeout=60
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_prometheus_scrapes_what_compose_runs() -> None:
    config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text(encoding="utf-8"))
    compose = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text(encoding="utf-8"))
    jobs = {job["job_name"]: job for job in config["scrape_configs"]}
    (api,) = jobs["xferq-api"]["static_configs"]
    settings = compose["services"]["api"]["environment"]
    assert api["targets"] == [f"api:{settings.get('XFERQ_API_LISTEN_PORT', Settings().api_listen_port)}"]
    workers = jobs["xferq-worker"]["dns_sd_configs"] + jobs["xferq-worker-more"]["dns_sd_configs"]
    assert {tuple(found["names"]) for found in workers} == {("worker",)}
    assert "worker" in compose["services"]
    # As many processes as there are by default, at most.
    assert [found["port"] for found in workers] == [8001, 8002, 8003, 8004]
    assert config["rule_files"] == ["alerts.yaml"]


def test_grafana_finds_board_and_prometheus() -> None:
    folder = ROOT / "deploy" / "grafana" / "provisioning"
    (source,) = yaml.safe_load((folder / "datasources" / "prometheus.yaml").read_text(encoding="utf-8"))["datasources"]
    (variable,) = BOARD["templating"]["list"]
    assert (variable["name"], variable["current"]["value"], variable["query"]) == (
        "datasource",
        source["uid"],
        source["type"],
    )
    (provider,) = yaml.safe_load((folder / "dashboards" / "xferq.yaml").read_text(encoding="utf-8"))["providers"]
    assert provider["options"]["path"] == "/var/lib/grafana/dashboards"
    panels = BOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells
        for target in panel.get("targets", ()):
            assert target["datasource"] == {"type": source["type"], "uid": "${datasource}"}


def test_a_worker_s_port_answers_head_as_get_and_a_whole_url_as_its_path(serve: Serve, port: int) -> None:
    serve("127.0.0.1", port)

    def ask(request: str, *headers: str) -> tuple[list[str], str]:
        with socket.create_connection(("127.0.0.1", port), 5) as connection:
            connection.sendall("\r\n".join([f"{request} HTTP/1.0", "Host: x", *headers, "", ""]).encode())
            raw = b"".join(iter(lambda: connection.recv(1 << 16), b"")).decode()
        head, _, body = raw.partition("\r\n\r\n")
        lines = head.split("\r\n")
        return [lines[0], *sorted(line for line in lines[1:] if line.startswith("Content-"))], body

    for path in ("/livez", "/readyz", "/nothing"):
        head, body = ask(f"GET {path}")
        assert body
        assert ask(f"HEAD {path}") == (head, "")
        for host in ("http://worker:8001", "HTTPS://[::1]", "http://"):
            assert ask(f"GET {host}{path}") == (head, body)
    for accept in ("*/*", "text/plain;version=0.0.4", "application/openmetrics-text;version=abc"):
        head, body = ask("HEAD /metrics", f"Accept: {accept}")
        assert (head[0], body) == ("HTTP/1.0 200 OK", "")
        assert any("version=0.0.4" in line for line in head)
    assert ask("GET http://worker:8001")[0][0] == "HTTP/1.0 404 Not Found"
