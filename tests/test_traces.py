"""Traces that are off, that can't be on, and whose collector is not there."""

import asyncio
import gc
import logging
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from opentelemetry.trace import SpanKind

from streams.errors import Misconfigured
from streams.settings.settings import Settings
from streams.telemetry import traces
from streams.telemetry.logs import quiet_libraries
from streams.telemetry.traces import close_traces, current_trace, fail, open_traces, span
from tests.api.processes import environment, xferq
from tests.support.patience import WAIT_S, allowed_s

# The API of OpenTelemetry is always there; it does nothing by itself.
OFF = """
import sys
import streams.worker.process
import api.app, api.server
from streams.settings.settings import Settings
api.app.create_app(Settings(bootstrap_servers="127.0.0.1:1"))
print(*(name for name in sys.modules if name.startswith(("opentelemetry.sdk", "opentelemetry.exporter"))))
"""


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    # Coroutines that other tests left behind end when they are collected. In the middle of a test here they would find
    # a running loop, begin tasks in it, and log.
    gc.collect()
    for name in os.environ:
        if name.startswith(("OTEL_", "XFERQ_")):
            monkeypatch.delenv(name)
    for name in ("_tracer", "_shut_down"):  # as they are before one opens traces
        monkeypatch.setattr(traces, name, getattr(traces, name))


def test_off_by_default_and_then_nothing_that_sends_is_imported() -> None:
    assert Settings().traces == "none"
    variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}  # is no wish to have it on
    command = [sys.executable, "-c", OFF]
    result = subprocess.run(command, env=os.environ | variables, capture_output=True, text=True, check=True)
    assert result.stdout == "\n"


def test_off_is_one_and_the_same_span_that_does_nothing() -> None:
    open_traces(Settings(), "x")
    parent = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}  # no other process's either
    with span("a", parent=parent) as one, span("b", SpanKind.SERVER, {"c": 1}) as other:
        one.set_attributes({"d": 2})
        fail(one, "e")
        assert one is other
        assert not one.is_recording()
        assert current_trace() == {}


@pytest.mark.parametrize("command", ["api", "worker"])
def test_on_without_the_extra_a_start_is_refused(command: str, tmp_path: Path) -> None:
    # As if it were not installed: its module can't be imported.
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['opentelemetry.exporter.otlp'] = None\n")
    variables = {
        "XFERQ_TRACES": "otlp",
        "XFERQ_BOOTSTRAP_SERVERS": "127.0.0.1:1",
        "XFERQ_METRICS_PORT": "0",
        "XFERQ_WORKER_PROCESSES": "1",
        "PYTHONPATH": str(tmp_path),
    }
    result = xferq(command, env=environment(variables, tmp_path), status=1)
    assert "XFERQ_TRACES is otlp" in result.stderr
    assert "pip install 'xferq[otel]'" in result.stderr


def test_a_variable_of_opentelemetrys_that_is_wrong_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "1")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "2")
    with pytest.raises(Misconfigured, match="OTEL_"):
        open_traces(Settings(traces="otlp"), "x")


async def test_a_collector_that_is_not_there_costs_a_line(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    quiet_libraries()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
    open_traces(Settings(traces="otlp"), "x")
    with caplog.at_level(logging.INFO):
        began = time.monotonic()
        for _ in range(10_000):  # more than the queue holds
            with span("a", attributes={"b": 1}):
                pass
        assert time.monotonic() - began < allowed_s(5)
        async with asyncio.timeout(WAIT_S):
            while not caplog.messages:
                await asyncio.sleep(0.02)
        await asyncio.sleep(0.2)
    assert [message.partition(":")[0] for message in caplog.messages] == ["traces.unsent"]
    await close_traces(0.1)


async def test_the_end_waits_for_no_collector(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections, and never answers
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "3600")  # s, which it would wait for an answer
        open_traces(Settings(traces="otlp"), "x")
        with span("a"):
            pass
        began = time.monotonic()
        await close_traces(0.2)
        assert time.monotonic() - began < allowed_s(2)
        # None that the interpreter would wait for.
        assert all(thread.daemon for thread in threading.enumerate() if thread is not threading.main_thread())
