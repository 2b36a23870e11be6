"""Names of the methods that tables and plots compare."""

WITH_KNOWLEDGE = "+knowledge"
"""Suffix of the name of a ranker with knowledge."""
WITH_CONTROL = "+control:"
"""Between the name of a ranker and the name of the control that joins it in place of knowledge."""
