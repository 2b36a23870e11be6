"""Names of the methods that tables and plots compare."""

WITH_KNOWLEDGE = "+knowledge"
"""Suffix of the name of a ranker with knowledge."""
