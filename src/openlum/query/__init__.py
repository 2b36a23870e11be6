"""Step 2, knowledge querying: answers of the Large User Model to questions about impressions."""
