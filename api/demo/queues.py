"""The demo's scheduled queues: every form of a name, and schedules of every kind."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from streams.domain.timestamp import format_time

Schedule = Mapping[str, str]

LONG_CAMPAIGN = "-".join(["a campaign whose name is longer than the name of a topic can be"] * 5)
"""With it, a topic's name would have over 249 characters: it gets a digest instead."""


@dataclass(frozen=True, slots=True)
class ScheduledQueue:
    """A scheduled queue, and how messages come to be in it.

    `name` is written out and not computed: it is what the demo compares the engine's work with. `meta` is the
    metadata that makes messages belong there; `share` how many of ten messages or so.
    """

    name: str
    domain: str
    meta: Mapping[str, str] = field(default_factory=dict)
    schedule: Schedule | None = None
    share: int = 1


def scheduled_queues(run: str, now: datetime) -> Sequence[ScheduledQueue]:
    """The queues of one run.

    Args:
        run: where it is not empty, all domains lie below this one, so that no other queue has such a name.
        now: aware; some schedules begin a certain time later.
    """

    def at(domain: str) -> str:
        return f"{domain.removesuffix('.example')}.{run}.example" if run else domain

    com, org, net = at("mail.example"), at("letters.example"), at("post.example")
    office = {"dow": "Mon,Tue,Wed,Thu,Fri", "tz": "America/Phoenix", "start": "09:00:00", "end": "17:00:00"}
    night = {"dow": "Saturday,sun", "tz": "Asia/Tokyo", "start": "22:30:00", "end": "23:59:59"}
    always = {"dow": "Mon,Tue,Wed,Thu,Fri,Sat,Sun", "tz": "UTC", "start": "00:00:00", "end": "23:59:59"}
    later = format_time((now + timedelta(hours=2)).replace(microsecond=0))
    return (
        ScheduledQueue(f"mytenant@{com}", com, {"tenant": "mytenant"}, {"expires": "3000-12-31T00:00:00Z"}, 3),
        ScheduledQueue(com, com, share=2),
        ScheduledQueue(f"spring:acme@{com}", com, {"campaign": "spring", "tenant": "acme"}, share=2),
        ScheduledQueue(f"office:acme@{org}", org, {"campaign": "office", "tenant": "acme"}, office, 2),
        ScheduledQueue(f"night:shop@{org}", org, {"campaign": "night", "tenant": "shop"}, night),
        ScheduledQueue(f"hourly@{org}", org, {"tenant": "hourly"}, {**always, "expires": "2999-01-01T00:00:00Z"}),
        ScheduledQueue(f"later@{net}", net, {"tenant": "later"}, {"first_attempt": later}),
        ScheduledQueue(
            f"both@{net}!relay.{net}",
            net,
            {"tenant": "both", "routing_domain": f"relay.{net}"},
            {**office, "first_attempt": later, "expires": "2999-12-31T23:59:59+02:00"},
        ),
        ScheduledQueue(f"billing:@{net}", net, {"campaign": "billing"}),
        ScheduledQueue(f"{com}!{net}:2025", com, {"routing_domain": f"{net}:2025"}),
        ScheduledQueue(at("b\u00fccher.example"), at("b\u00fccher.example")),
        # Metadata `queue` wins over all the rest.
        ScheduledQueue(f"vip@{org}", com, {"queue": f"vip@{org}", "tenant": "acme"}),
        ScheduledQueue(f"{LONG_CAMPAIGN}:acme@{com}", com, {"campaign": LONG_CAMPAIGN, "tenant": "acme"}),
    )
