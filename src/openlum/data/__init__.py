"""Event log to `dataset/`."""
