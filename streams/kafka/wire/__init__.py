"""Kafka's wire as aiokafka lacks it: requests of its protocol, record batches, and what is changed in the library."""
