"""What can go wrong with the embedded broker, in words for the person in front of it."""


class BrokerError(Exception):
    """The embedded broker can't do what was asked; the text says why and what would help."""


class PortInUseError(BrokerError):
    """Another program listens on a port that the broker was to have."""
