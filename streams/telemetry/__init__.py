"""What is told of the work: metrics, log lines, traces, health."""
