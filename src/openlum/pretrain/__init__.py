"""Step 1: knowledge construction."""
