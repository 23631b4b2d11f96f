"""What can go wrong with the embedded broker, in words for the person in front of it."""

from streams.errors import XferqError


class BrokerError(XferqError):
    """The embedded broker can't do what was asked; the text says why and what would help."""


class PortInUseError(BrokerError):
    """Another program listens on a port that the broker was to have."""
