"""docs/runbook.md, tried: Kafka is brought into the state that an entry is about, and its own commands end it."""
