"""Makes the corpus of envelopes as real encoders write them: `python -m tests.native.corpus.generate`.

Each encoder reads the same values and writes its own file; where one's toolchain is not here, its file stays as it is.
"""

import json
import random
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson

HERE = Path(__file__).parent
_COUNT = 200
_WORDS = (
    *(
        "newsletter",
        "M\xfcller & S\xf6hne <info>",
        "\u65e5\u672c\u8a9e",
        "\U0001f600 sale",
        "Zo\xeb",
        "line\nbreak",
        'a "quote"',
    ),
    *(
        "back\\slash",
        "tab\t",
        "",
        "a/b",
        "\u2028",
        "\x7f",
        "\xa0",
        "\u0416\u0443\u0440\u043d\u0430\u043b",
        "\u200d",
        "\x00\x1f",
    ),
)
_XFER_QUEUE = "http://bogus.example/.xfer.kumomta.internal"


def values(count: int, seed: int = 1) -> list[dict[str, Any]]:
    """Envelopes with metadata of any kind, each of a message that a cancel can restore."""
    chance = random.Random(seed)
    return [_envelope(chance, number) for number in range(count)]


def _any(chance: random.Random, depth: int = 0) -> Any:
    match chance.randrange(9):
        case 0:
            return chance.choice((0, -1, 7, 2**31, 2**53, -(2**53), 10**15))
        case 1:
            return chance.choice((0.5, -0.25, 1e-7, 1.5e300, 3.141592653589793, 100.0, 1e21, 5e-324))
        case 2:
            return chance.uniform(-1000, 1000)
        case 3:
            return chance.choice((None, True, False))
        case 4 if depth < 3:
            return [_any(chance, depth + 1) for _ in range(chance.randrange(4))]
        case 5 if depth < 3:
            return {f"{chance.choice(_WORDS)}{n}": _any(chance, depth + 1) for n in range(chance.randrange(4))}
    return chance.choice(_WORDS)


def _envelope(chance: random.Random, number: int) -> dict[str, Any]:
    info = {"campaign": f"spring-{number % 7}", "tenant": f"t{number % 5}", "num_attempts": number % 4}
    if number % 3 == 0:
        info |= {"queue": f"c:t@d{number}.example", "due": "2026-11-20T10:00:00.123456Z"}
    if number % 4 == 0:
        info["schedule"] = {"dow": "Mon,Tue", "tz": "Europe/Berlin", "start": "09:00", "end": "17:00"}
    meta = {
        "queue": _XFER_QUEUE,
        "xfer_queue_info": info,
        "reception_protocol": "ESMTP",
        "received_from": "10.0.0.1:34567",
        "score": chance.random(),
        **{f"x-{n}-{chance.choice(_WORDS)}": _any(chance) for n in range(chance.randrange(6))},
    }
    recipient = f"r{number}@D{number % 16}.example"
    return {
        "sender": chance.choice(("newsletter@example.com", "", "m\xfcller@example.com", '"a b"@example.com')),
        "recipient": chance.choice((recipient, [recipient], [recipient, "b@other.example"])),
        "meta": meta,
        "num_attempts": number % 3,
        "created": f"2026-11-20T10:00:{number % 60:02}.{number:06}{chance.choice(('Z', '+02:00'))}",
        "due": chance.choice((None, "2026-11-20T10:00:00Z")),
        "schedule": None,
    }


def _jars() -> str:
    """The class path with Jackson: that of the embedded Kafka."""
    cache = Path.home() / ".cache" / "xferq" / "maven" / "com" / "fasterxml" / "jackson" / "core"
    return ":".join(str(jar) for jar in sorted(cache.rglob("*.jar")))


def _written(command: Sequence[str], lines: bytes) -> bytes:
    return subprocess.run(command, input=lines, stdout=subprocess.PIPE, check=True, cwd=HERE).stdout


def main() -> None:
    found = values(_COUNT)
    lines = "".join(json.dumps(value) + "\n" for value in found).encode()
    (HERE / "python.jsonl").write_bytes(lines)
    (HERE / "orjson.jsonl").write_bytes(b"".join(orjson.dumps(value) + b"\n" for value in found))
    with tempfile.TemporaryDirectory() as target:
        encoders = {
            "go": ["go", "run", "encode.go"],
            "jackson": ["java", "-cp", _jars(), "Encode.java"],
            "serde": ["cargo", "run", "-q", "--manifest-path", "serde/Cargo.toml", "--target-dir", target],
        }
        for name, command in encoders.items():
            if shutil.which(command[0]) is None:
                print(f"{name}: there is no {command[0]}")
                continue
            (HERE / f"{name}.jsonl").write_bytes(_written(command, lines))


if __name__ == "__main__":
    main()
