"""Mail as it is found in files, and the envelopes that make queued messages of it."""
