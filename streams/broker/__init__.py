"""The embedded broker: Apache Kafka itself, fetched once, run on loopback for demo, development and tests."""

from streams.broker.cluster import EmbeddedCluster
from streams.broker.failure import BrokerError, PortInUseError
from streams.broker.node import EmbeddedBroker

__all__ = ["BrokerError", "EmbeddedBroker", "EmbeddedCluster", "PortInUseError"]
