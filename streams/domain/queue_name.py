"""Names of scheduled queues: the grammar `campaign:tenant@domain!routing_domain`, and the xfer suffix.

As KumoMTA has it (crates/message/src/queue_name.rs and crates/kumo-api-types/src/xfer.rs): a name is split
at its first `@`, what is before that at its first `:`, and the domain at its first `!`. Every string parses;
whether a name may be used at all is a question for `validate_queue_name`.
"""

from dataclasses import dataclass

XFER_SUFFIX = ".xfer.kumomta.internal"
"""What the name of an xfer queue ends with, after its target."""

MAX_NAME_BYTES = 1024
"""The longest queue name, in bytes of UTF-8 (inclusive)."""


class InvalidQueueName(ValueError):
    """The string cannot name a queue."""


def is_xfer(name: str) -> bool:
    """Whether this is the name of an xfer queue: by its suffix alone, as in KumoMTA."""
    return name.endswith(XFER_SUFFIX)


def validate_queue_name(name: str) -> str:
    """The name itself, if it is 1 to 1,024 bytes of UTF-8 (both inclusive).

    Raises:
        InvalidQueueName: it is empty, too long, or holds a lone surrogate.
    """
    try:
        size = len(name) if name.isascii() else len(name.encode())
    except UnicodeEncodeError:
        raise InvalidQueueName("a queue name must be valid Unicode") from None
    if not 0 < size <= MAX_NAME_BYTES:
        raise InvalidQueueName(f"a queue name must be 1 to {MAX_NAME_BYTES} bytes of UTF-8")
    return name


@dataclass(frozen=True, slots=True)
class QueueName:
    """The parts of a scheduled queue's name; None for a part that the name does not have.

    `c:@d` has the empty tenant, not none: KumoMTA writes a campaign without a tenant that way and reads it
    back like that, so the two values have one and the same text.
    """

    domain: str
    tenant: str | None = None
    campaign: str | None = None
    routing_domain: str | None = None

    @classmethod
    def parse(cls, name: str) -> "QueueName":
        """The parts of `name`; never fails."""
        prefix, at, domain = name.partition("@")
        if not at:
            prefix, domain = "", name
        campaign, colon, tenant = prefix.partition(":")
        if not colon:
            campaign, tenant = "", prefix
        domain, bang, routing_domain = domain.partition("!")
        return cls(
            domain=domain,
            tenant=tenant if at else None,
            campaign=campaign if colon else None,
            routing_domain=routing_domain if bang else None,
        )

    def format(self) -> str:
        """The queue's name as KumoMTA writes it."""
        return format_queue_name(self.campaign, self.tenant, self.domain, self.routing_domain)

    __str__ = format

    def matches(
        self,
        *,
        campaign: str | None = None,
        tenant: str | None = None,
        domain: str | None = None,
        routing_domain: str | None = None,
    ) -> bool:
        """Whether every wanted part (not None) equals this name's; a part that is lacking equals nothing."""
        return (
            (campaign is None or campaign == self.campaign)
            and (tenant is None or tenant == self.tenant)
            and (domain is None or domain == self.domain)
            and (routing_domain is None or routing_domain == self.routing_domain)
        )


def format_queue_name(campaign: str | None, tenant: str | None, domain: str, routing_domain: str | None) -> str:
    """The name made of these parts; those that are None are left out, the empty ones are not."""
    name = domain if routing_domain is None else f"{domain}!{routing_domain}"
    if campaign is not None:
        return f"{campaign}:{tenant or ''}@{name}"
    return name if tenant is None else f"{tenant}@{name}"
