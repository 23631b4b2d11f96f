"""Work side by side: order for one key, places, shared requests, the end of tasks and of patience."""
