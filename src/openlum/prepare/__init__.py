"""From an event log to `dataset/`: the stages in order. `inputs/` reads files, `engines/` computes tables."""
