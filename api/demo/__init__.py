"""`xferq demo`: mail goes into an xfer queue and comes back, on a real Kafka, and every message is accounted for."""
