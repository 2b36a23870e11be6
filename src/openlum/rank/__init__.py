"""Step 3: knowledge utilization."""
