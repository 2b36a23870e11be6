"""Checks of values and arrays that callers pass to functions."""
