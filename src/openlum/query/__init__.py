"""Step 2: knowledge querying."""
