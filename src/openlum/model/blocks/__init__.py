"""Blocks of the user encoder, one file an architecture."""
