"""Queue topics with settings by which Kafka may drop messages by itself, or keep some out."""

from collections.abc import Collection

from streams.kafka.connection import Connection
from streams.kafka.topics import CLEAN_ELECTIONS, KEEPS_ALL, QUEUE_CONFIG, Topics

_LOOK_AT_ONCE = 100
_SAFE = {**KEEPS_ALL, **CLEAN_ELECTIONS}
"""What nothing is lost by."""


async def unsafe_queues(connection: Connection, names: Collection[str]) -> dict[str, str]:
    """Those of these queue topics that Kafka may drop messages from by itself, or keep some out of; with the reasons.

    Those that messages may be lost from come first.

    Raises:
        Unavailable: Kafka does not answer.
        Refused: Kafka does not let us look.
    """
    topics = Topics(connection)
    wanted = sorted(names)
    found: dict[str, tuple[bool, str]] = {}
    for start in range(0, len(wanted), _LOOK_AT_ONCE):
        for name, config in (await topics.configs(wanted[start : start + _LOOK_AT_ONCE])).items():
            differing = {
                key: f"{key} is {config[key]}, should be {value}"
                for key, value in QUEUE_CONFIG.items()
                if key in config and not is_same(config[key], value)
            }
            if differing:
                loses_nothing = differing.keys().isdisjoint(_SAFE)
                found[name] = loses_nothing, "; ".join(differing.values())
    return {name: why for name, (_, why) in sorted(found.items(), key=lambda item: (item[1][0], item[0]))}


def is_same(there: str | None, wanted: str) -> bool:
    """Whether two texts are the same setting."""
    if there == wanted:
        return True
    try:
        return there is not None and float(there) == float(wanted)  # Kafka writes 0.20 as it was given
    except ValueError:
        return False
