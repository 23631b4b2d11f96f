"""Work side by side: order within a lane, places, shared rounds, the end of tasks."""
