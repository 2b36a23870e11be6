"""Metrics and statistical tests that several steps share."""
