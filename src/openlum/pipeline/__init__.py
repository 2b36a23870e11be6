"""The whole pipeline from one experiment file."""
