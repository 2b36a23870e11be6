"""From an event log to `dataset/`: the stages in order. `inputs/` reads the user's files, `engines/` computes tables."""
