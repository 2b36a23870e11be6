"""A simulated marketplace and other simulated worlds, with known click probabilities."""
