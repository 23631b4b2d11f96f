"""What messages, schedules and names may look like, for the property tests."""

from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
from hypothesis import strategies as st

from streams.domain.queue_name import QueueName
from streams.domain.timestamp import format_time

XFER_QUEUE = "http://bogus.example/.xfer.kumomta.internal"
OTHER_XFER_QUEUE = "https://other.example:8000/.xfer.kumomta.internal"
CONCERNED = ("queue", "routing_domain", "tenant", "campaign", "xfer_queue_info")

texts = st.text(st.characters(exclude_categories=["Cs"]))
short_texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
domains = st.text("abcXYZ0189.-", min_size=1, max_size=30)
# What JSON holds on the way: 64-bit integers (signed or not) and doubles.
numbers = st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
json_values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)
times = st.datetimes(datetime(1971, 1, 1), datetime(2200, 1, 1)).map(lambda time: time.replace(tzinfo=UTC))

zones = st.sampled_from(
    [
        "UTC",
        "America/Phoenix",
        "America/New_York",
        "America/Sao_Paulo",
        "Europe/Berlin",
        "Africa/Casablanca",
        "Asia/Kathmandu",
        "Australia/Lord_Howe",
        "Pacific/Apia",
        "Pacific/Kiritimati",
    ]
)
DAY_NAMES = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"]


@st.composite
def restrictions(draw: st.DrawFn) -> dict[str, Any]:
    """The four fields of a restriction, with at least a second between start and end."""
    start, end = sorted(draw(st.sets(st.integers(0, 86399), min_size=2, max_size=2)))
    days = draw(st.lists(st.sampled_from(DAY_NAMES), min_size=1, max_size=7, unique=True))
    return {
        "dow": ",".join(days),
        "tz": draw(zones),
        "start": str(timedelta(seconds=start)).zfill(8),
        "end": str(timedelta(seconds=end)).zfill(8),
    }


@st.composite
def schedules(draw: st.DrawFn) -> dict[str, Any]:
    schedule = draw(restrictions()) if draw(st.booleans()) else {}
    for field in ("first_attempt", "expires"):
        if draw(st.booleans()):
            offset = draw(st.sampled_from(["Z", "+00:00", "-07:00", "+05:45"]))
            schedule[field] = format_time(draw(times)).replace("Z", offset)
    return schedule


queue_names = st.builds(
    QueueName,
    domain=domains,
    tenant=st.none() | st.text("abc-_\xfc.", min_size=1, max_size=20),
    campaign=st.none(),
    routing_domain=st.none() | domains,
) | st.builds(
    QueueName,
    domain=domains,
    tenant=st.text("abc-_\xfc.:", max_size=20),
    campaign=st.text("abc-_\xfc.", max_size=20),
    routing_domain=st.none() | domains,
)


@st.composite
def unconcerned_metadata(draw: st.DrawFn) -> dict[str, Any]:
    meta = draw(st.dictionaries(texts, json_values, max_size=6))
    return {name: value for name, value in meta.items() if name not in CONCERNED}


@st.composite
def envelopes(draw: st.DrawFn) -> dict[str, Any]:
    """An envelope of a message that is in a scheduled queue, with metadata of any kind."""
    meta = draw(unconcerned_metadata())
    for part in ("tenant", "campaign", "routing_domain"):
        if draw(st.booleans()):
            meta[part] = draw(short_texts)
    if draw(st.booleans()):
        meta["queue"] = draw(queue_names.map(str))
    addresses = st.builds(lambda local, domain: f"{local}@{domain}", short_texts, domains)
    envelope = {
        "sender": draw(st.just("") | addresses),
        "recipient": draw(addresses | st.lists(addresses, min_size=1, max_size=3)),
        "meta": draw(st.permutations(list(meta.items())).map(dict)),
        "num_attempts": draw(st.integers(0, 65535)),
        "created": draw(times.map(format_time)),
        "due": draw(st.none() | times.map(format_time)),
        "schedule": draw(st.none() | schedules()),
    }
    for key in ("due", "schedule"):
        if envelope[key] is None and draw(st.booleans()):
            del envelope[key]
    envelope |= {f"x-{key}": value for key, value in draw(st.dictionaries(texts, json_values, max_size=2)).items()}
    return draw(st.permutations(list(envelope.items())).map(dict))


def exactly(value: object) -> bytes:
    """Equal for two JSON values only if they are the same ones: `True == 1 == 1.0` are not."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def without(mapping: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in mapping.items() if name not in names}
