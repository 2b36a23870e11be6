"""Names of the methods that tables and plots compare."""

WITH_KNOWLEDGE = "+knowledge"
"""Ends the name of a ranker that reads knowledge."""
