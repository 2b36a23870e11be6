"""The pipeline: all steps of one experiment file."""
