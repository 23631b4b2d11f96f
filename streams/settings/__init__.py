"""Settings: what there is, how values are written, and where they stand."""
