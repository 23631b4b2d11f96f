"""docs/runbook.md, tried: Kafka is brought into the state that an entry is about, and the entry's own commands end it."""
