"""The ledger: a compacted topic, followed; the one truth about claims, progress, heads and commands."""
