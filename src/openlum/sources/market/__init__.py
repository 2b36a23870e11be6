"""A simulated marketplace with known click probabilities."""
