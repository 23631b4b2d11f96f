"""Commands, from their records to their ends."""
