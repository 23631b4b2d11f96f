"""The worker process: Faust, the engine, and the standing work."""
