"""A model of Kafka in memory, and of those who use it: what the engine's tests run on.

`broker` holds the cluster's state, `kafka` implements `streams.ports` over it. A crash ends a `FakeKafka`
and all that uses it; the broker stays, and another `FakeKafka` over it goes on.
"""
